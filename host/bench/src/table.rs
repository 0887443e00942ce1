//! Tables of text for people: every report's, here and on the command line.

/// Rows of cells in columns that are as wide as their widest cell.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Option<fn(usize) -> bool>,
    indent: usize,
}

impl Table {
    /// A table without rows, at the line's beginning, its columns to the left.
    pub fn new() -> Self {
        Self::default()
    }

    /// The columns (counted from 0) that stand to the right, as numbers do.
    #[must_use]
    pub fn right(self, of: fn(usize) -> bool) -> Self {
        Self { right: Some(of), ..self }
    }

    /// Begins each line with so many blanks.
    #[must_use]
    pub fn indent(self, blanks: usize) -> Self {
        Self { indent: blanks, ..self }
    }

    /// Adds a row; heads are the first one. Rows may have different lengths.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table, two blanks between columns and none at ends of lines.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                match self.right {
                    Some(right) if right(column) => format!("{cell:>width$}"),
                    _ => format!("{cell:width$}"),
                }
            });
            let line = " ".repeat(self.indent) + &cells.collect::<Vec<_>>().join("  ");
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

impl<S: Into<String>, R: IntoIterator<Item = S>> FromIterator<R> for Table {
    /// A table of these rows, its columns to the left.
    fn from_iter<T: IntoIterator<Item = R>>(rows: T) -> Self {
        let mut table = Self::new();
        rows.into_iter().for_each(|row| table.row(row));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["rows", "ms"], ["1", "20.5"], ["64", "7"]];
        let table: Table = rows.into_iter().collect();
        assert_eq!(table.text(), "rows  ms\n1     20.5\n64    7\n");
        let table = table.right(|column| column > 0).indent(2);
        assert_eq!(table.text(), "  rows    ms\n  1     20.5\n  64       7\n");
    }

    #[test]
    fn rows_may_have_different_lengths_and_letters_of_several_bytes() {
        let mut table = Table::new().right(|column| column == 1);
        assert_eq!(table.text(), "");
        table.row(["µs"]);
        table.row(["a", "12", "x"]);
        table.row(["", "1"]);
        assert_eq!(table.text(), "µs\na   12  x\n     1\n");
    }
}
