//! Tables, and numbers as people read them.

/// Lines of cells, the heads first: columns as wide as their widest cell. What stands under a head that begins with `>`
/// is put to the right, as numbers are.
pub(super) fn table(lines: &[Vec<String>]) -> String {
    let heads = lines.first().map_or(&[][..], Vec::as_slice);
    let to_right: Vec<bool> = heads.iter().map(|head| head.starts_with('>')).collect();
    let shown = |cell: &str, number: usize| {
        if number == 0 { cell.trim_start_matches('>').to_owned() } else { cell.to_owned() }
    };
    let lines = lines.iter().enumerate();
    let lines: Vec<Vec<String>> =
        lines.map(|(number, line)| line.iter().map(|cell| shown(cell, number)).collect()).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..to_right.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).zip(&to_right).map(|((cell, width), to_right)| {
            if *to_right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// What stands where there is nothing to tell.
#[cfg(unix)]
pub(super) const NONE: &str = "-";

/// Bytes in the largest unit of which there is one: `1.5 GiB`.
#[cfg(unix)]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut amount = count as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// Milliseconds in the two largest units of which there is one: `3d4h`, `12m5s`, `250ms`.
#[cfg(unix)]
pub(super) fn span(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let Some(first) = UNITS.iter().position(|(_, unit)| ms >= *unit) else { return format!("{ms}ms") };
    let (name, unit) = UNITS[first];
    let rest = UNITS.get(first + 1).map(|(name, unit_below)| (name, ms % unit / unit_below));
    match rest {
        Some((below, count)) if count > 0 => format!("{}{name}{count}{below}", ms / unit),
        _ => format!("{}{name}", ms / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_cells_and_numbers_stand_to_the_right() {
        let line = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines =
            [line(["NAME", ">COUNT", "AT"]), line(["a", "7", "1.2.3.4:5"]), line(["long name", "-", "-"])];
        let expected = "NAME       COUNT  AT\na              7  1.2.3.4:5\nlong name      -  -\n";
        assert_eq!(table(&lines), expected);
        assert_eq!(table(&[]), "");
    }

    #[test]
    #[cfg(unix)]
    fn numbers_are_short() {
        let counts = [0, 1023, 1024, 1_048_575, 1_572_864, u64::MAX];
        assert_eq!(counts.map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 MiB", "16.0 EiB"]);
        let spans = [0, 999, 1_000, 61_000, 3_600_000, 90_000_000, 864_000_000];
        assert_eq!(spans.map(span), ["0ms", "999ms", "1s", "1m1s", "1h", "1d1h", "10d"]);
    }
}
