//! minijinja set up as Hugging Face sets up Jinja for chat templates: white-space rules,
//! Python's methods on strings and maps, loop controls, JSON as Python prints it, and the
//! functions templates call. Knows nothing of tokens.

use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::clock::civil;

/// The name under which the template is kept.
pub(super) const NAME: &str = "chat";

/// How much work a template may do before it is stopped: a template comes with a model
/// file and may loop for ever. A long conversation needs some ten thousand units; this
/// many take about a second.
const FUEL: u64 = 20_000_000;

/// An environment that holds `source` as [`NAME`].
pub(super) fn new(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}

/// One line that says what went wrong in a template and where.
pub(super) fn explain(error: &Error) -> String {
    let mut text = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line} of the template)"));
    }
    if let Some(cause) = error.source() {
        text.push_str(&format!(": {cause}"));
    }
    text.replace('\n', " ")
}

/// `strftime_now(format)`, with the time standing still at `unix_seconds`.
pub(super) fn add_clock(environment: &mut Environment<'static>, unix_seconds: i64) {
    environment.add_function("strftime_now", move |format: String| strftime(&format, unix_seconds));
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False, indent=indent)` prints it;
/// minijinja's own filter escapes `<` and `>` for use in HTML.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    // Python's other options only concern characters and order that we keep as they are.
    for option in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Value> = options.get(option)?;
    }
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let pretty = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    written
        .map_err(|error| error.to_string())
        .and_then(|()| String::from_utf8(out).map_err(|error| error.to_string()))
        .map(Value::from)
        .map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

/// `{"a": 1, "b": [1, 2]}`: Python puts a space after commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// C's strftime, in UTC and English, for the directives that chat templates use.
fn strftime(format: &str, unix_seconds: i64) -> Result<String, Error> {
    let days = unix_seconds.div_euclid(86_400);
    let second = unix_seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    // Both are in range: a month is 1 to 12, a remainder by 7 is 0 to 6. 1970 began on a
    // Thursday.
    let month_name = MONTHS[(month - 1) as usize];
    let weekday = WEEKDAYS[(days + 3).rem_euclid(7) as usize];
    let (hour, minute) = (second / 3600, second / 60 % 60);

    let mut out = String::new();
    let mut symbols = format.chars();
    while let Some(symbol) = symbols.next() {
        if symbol != '%' {
            out.push(symbol);
            continue;
        }
        let mut directive = symbols.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = symbols.next();
        }
        let two = |number: i64| if unpadded { number.to_string() } else { format!("{number:02}") };
        match directive {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&two(year.rem_euclid(100))),
            Some('m') => out.push_str(&two(month)),
            Some('d') => out.push_str(&two(day)),
            Some('e') => out.push_str(&format!("{day:>2}")),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&two(hour)),
            Some('I') => out.push_str(&two((hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&two(minute)),
            Some('S') => out.push_str(&two(second % 60)),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{:02}", second % 60)),
            Some('%') => out.push('%'),
            other => {
                let directive = other.map_or_else(String::new, String::from);
                let reason = format!("strftime_now does not know the directive %{directive}");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 Thu"),
            (951_782_400, "2000-02-29 00:00:00 Tue"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue"),
            (-1, "1969-12-31 23:59:59 Wed"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime("%F %T %a", seconds).unwrap(), expected);
        }
        assert_eq!(
            strftime("%d %B %Y, %-d %b, %I %p", 1_751_380_000).unwrap(),
            "01 July 2025, 1 Jul, 02 PM"
        );
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("%Q"));
    }

    #[test]
    fn json_is_printed_as_python_prints_it() {
        let environment = new("{{ x | tojson }} {{ x | tojson(indent=2) }}").unwrap();
        let x = serde_json::json!({ "a": "<b> & 'é'", "n": [1, 2.5, null, true] });
        let x = Value::from(minijinja::value::Serde(x));
        let text =
            environment.get_template(NAME).unwrap().render(minijinja::context! { x }).unwrap();
        assert_eq!(
            text,
            "{\"a\": \"<b> & 'é'\", \"n\": [1, 2.5, null, true]} \
             {\n  \"a\": \"<b> & 'é'\",\n  \"n\": [\n    1,\n    2.5,\n    null,\n    true\n  ]\n}"
        );
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let endless =
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        let environment = new(endless).unwrap();
        assert!(environment.get_template(NAME).unwrap().render(()).is_err());
    }
}
