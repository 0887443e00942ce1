//! Writing SVG: shapes and text with coordinates rounded to tenths, styled by
//! attributes, so that a file stands alone wherever it is shown.

use std::fmt::Write as _;

/// Where a text stands from its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextStyle {
    /// Pixels.
    pub size: f64,
    /// Colour.
    pub colour: &'static str,
    /// Where it stands from its point.
    pub anchor: Anchor,
    /// Whether it is bold.
    pub bold: bool,
}

impl TextStyle {
    /// Text of this size and colour that begins at its point.
    pub const fn new(size: f64, colour: &'static str) -> Self {
        Self { size, colour, anchor: Anchor::Start, bold: false }
    }

    /// The same, anchored otherwise.
    pub const fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// The same in bold.
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }
}

/// A picture that is being drawn.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// A white picture.
    pub fn new(width: f64, height: f64) -> Self {
        let mut svg = Self { width, height, body: String::new() };
        svg.rect((0.0, 0.0), (width, height), "#ffffff");
        svg
    }

    /// A filled rectangle from its upper left corner.
    pub fn rect(&mut self, at: (f64, f64), size: (f64, f64), fill: &str) {
        self.push(format_args!(
            r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{fill}"/>"#,
            at.0, at.1, size.0, size.1
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.push(format_args!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through points; dashed where asked for.
    pub fn polyline(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if dashed { r#" stroke-dasharray="5 4""# } else { "" };
        self.push(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width:.1}" stroke-linejoin="round"{dashes}/>"#,
            points.join(" ")
        ));
    }

    /// A filled circle.
    pub fn circle(&mut self, at: (f64, f64), radius: f64, fill: &str) {
        self.push(format_args!(
            r#"<circle cx="{:.1}" cy="{:.1}" r="{radius:.1}" fill="{fill}"/>"#,
            at.0, at.1
        ));
    }

    /// One line of text on its baseline.
    pub fn text(&mut self, at: (f64, f64), text: &str, style: TextStyle) {
        self.push(format_args!(
            r#"<text x="{:.1}" y="{:.1}"{}>{}</text>"#,
            at.0,
            at.1,
            attributes(style),
            escaped(text)
        ));
    }

    /// One line of text that runs upwards through its point.
    pub fn text_upwards(&mut self, at: (f64, f64), text: &str, style: TextStyle) {
        self.push(format_args!(
            r#"<text transform="translate({:.1} {:.1}) rotate(-90)"{}>{}</text>"#,
            at.0,
            at.1,
            attributes(style),
            escaped(text)
        ));
    }

    /// The file's text.
    pub fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\">\n\
             {body}</svg>\n"
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn attributes(style: TextStyle) -> String {
    let anchor = match style.anchor {
        Anchor::Start => "",
        Anchor::Middle => r#" text-anchor="middle""#,
        Anchor::End => r#" text-anchor="end""#,
    };
    let bold = if style.bold { r#" font-weight="600""# } else { "" };
    format!(r#" font-size="{:.1}" fill="{}"{anchor}{bold}"#, style.size, style.colour)
}

/// `text` with what XML reserves written as references.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks that every element is closed, in order, and that text and
    /// attributes hold nothing that XML reserves.
    #[track_caller]
    pub(crate) fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "a stray > in {:?}", &rest[..start]);
            for reference in rest[..start].split('&').skip(1) {
                assert!(
                    ["amp;", "lt;", "gt;", "quot;"].iter().any(|r| reference.starts_with(r)),
                    "a bare & in {:?}",
                    &rest[..start]
                );
            }
            let end = start + rest[start..].find('>').expect("an element does not end");
            let element = &rest[start + 1..end];
            assert_eq!(element.matches('"').count() % 2, 0, "quotes in {element}");
            if let Some(name) = element.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "closed out of order");
            } else if !element.ends_with('/') {
                open.push(element.split_whitespace().next().expect("an element has a name"));
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
        assert_eq!(rest.trim(), "");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate is no number");
    }

    #[test]
    fn a_picture_is_well_formed_whatever_its_texts_say() {
        let mut svg = Svg::new(100.0, 50.0);
        svg.line((0.0, 0.0), (1.0, 1.0), "#000", 1.0);
        svg.polyline(&[(0.0, 0.0), (1.0, 2.0)], "#000", 1.0, true);
        svg.circle((1.0, 1.0), 2.0, "#000");
        let style = TextStyle::new(12.0, "#000").anchor(Anchor::End).bold();
        svg.text((1.0, 1.0), "a < b && \"c\" > \u{7}d", style);
        svg.text_upwards((1.0, 1.0), "ms", style);
        let text = svg.finish();
        assert_well_formed(&text);
        assert!(text.contains("a &lt; b &amp;&amp; &quot;c&quot; &gt;  d"), "{text}");
    }
}
