//! Tables as `docker ps` prints them: no lines, two blanks between columns, names made safe for a terminal.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use comfy_table::{Table, presets};

use crate::telemetry::text;

/// Writes a table. Cells are escaped here, so that no caller can forget it.
pub(super) fn write<'a, const N: usize>(
    out: &mut impl Write,
    header: [&str; N],
    rows: impl IntoIterator<Item = [Cow<'a, str>; N]>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| text::escape(&cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    writeln!(out, "{}", table.trim_fmt())
}
