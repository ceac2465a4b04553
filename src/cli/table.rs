//! Tables in text.

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
}
