//! The colours of the charts, for light and dark pages. A chart is drawn in the light ones; rules of the style sheet
//! put variables in their place, so that both kinds of page have the same chart.
//!
//! The hues are those of Okabe and Ito (2008), which the colour-blind can tell apart, darkened or lightened until they
//! stand out from the page.

use std::fmt::Write;

use plotters::style::RGBColor;

use crate::lab::results::{Kind, Subject};

/// A colour on light and on dark pages, as 0xRRGGBB. Every light one is different, since the style sheet knows a colour
/// by it.
#[derive(Debug)]
pub(super) struct Colour {
    pub(super) name: &'static str,
    light: u32,
    dark: u32,
}

const fn colour(name: &'static str, light: u32, dark: u32) -> Colour {
    Colour { name, light, dark }
}

pub(super) const INK: Colour = colour("ink", 0x1B_1D20, 0xE9_E9E6);
pub(super) const MUTED: Colour = colour("muted", 0x5A_6068, 0xA9_AFB8);
pub(super) const GRID: Colour = colour("grid", 0xDD_E0E4, 0x3A_3F46);
pub(super) const PAPER: Colour = colour("paper", 0xFF_FFFF, 0x16_181C);
pub(super) const FAILED: Colour = colour("failed", 0xB3_1D28, 0xFF_8A80);

pub(super) const READINESS: Colour = colour("readiness", 0x00_72B2, 0x5A_B0E6);
pub(super) const COMPLETION: Colour = colour("completion", 0xD5_5E00, 0xF2_8A3C);
pub(super) const BLOCKING: Colour = colour("blocking", 0x00_8A66, 0x2F_C79C);
pub(super) const PEER: Colour = colour("peer", 0xA8_5588, 0xD9_8DBB);
pub(super) const BUILD: Colour = colour("build", 0x93_6C00, 0xE6_B422);
pub(super) const DIRECT: Colour = colour("direct", 0x83_8A93, 0x8B_929C);

/// For the parts of stacked bars, the most common first.
pub(super) const PARTS: [Colour; 8] = [
    colour("part0", 0x01_73B3, 0x5B_B1E7),
    colour("part1", 0xE6_9F00, 0xE6_9F00),
    colour("part2", 0x01_9E73, 0x20_B88C),
    colour("part3", 0xCC_79A7, 0xD9_90B8),
    colour("part4", 0x8A_4B08, 0xF0_E442),
    colour("part5", 0x56_B4E9, 0xA8_D8F5),
    colour("part6", 0xD6_5F01, 0xF3_7F2A),
    colour("part7", 0x33_4E5C, 0xC9_B8F0),
];
pub(super) const OTHER_PARTS: Colour = colour("other", 0x9A_A0A8, 0x7B_828C);

const PLAIN: [Colour; 12] =
    [INK, MUTED, GRID, PAPER, FAILED, READINESS, COMPLETION, BLOCKING, PEER, BUILD, DIRECT, OTHER_PARTS];

impl Colour {
    /// What a subject is drawn in, everywhere.
    pub(super) fn of(subject: &Subject) -> &'static Self {
        match (subject.kind, subject.model.as_deref()) {
            (Kind::Direct, _) => &DIRECT,
            (Kind::Build, _) => &BUILD,
            (Kind::Peer, _) => &PEER,
            (Kind::Engine, Some("completion")) => &COMPLETION,
            (Kind::Engine, Some("blocking")) => &BLOCKING,
            (Kind::Engine, _) => &READINESS,
        }
    }

    /// As the charts are drawn.
    pub(super) fn rgb(&self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The variables for both kinds of page, and the rules that put them in place of the colours in charts.
pub(super) fn css() -> String {
    let all = || PLAIN.iter().chain(&PARTS);
    let mut css = String::from(":root{");
    let variable = |css: &mut String, name, value| write!(css, "--{name}:#{value:06X};");
    // Writing to a string does not fail.
    for colour in all() {
        let _ = variable(&mut css, colour.name, colour.light);
    }
    css.push_str("}@media (prefers-color-scheme:dark){:root{");
    for colour in all() {
        let _ = variable(&mut css, colour.name, colour.dark);
    }
    css.push_str("}}\n");
    for Colour { name, light, .. } in all() {
        for what in ["fill", "stroke"] {
            let _ = writeln!(css, ".chart [{what}=\"#{light:06X}\"]{{{what}:var(--{name})}}");
        }
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_style_sheet_can_tell_all_colours_apart() {
        let all = PLAIN.iter().chain(&PARTS);
        let distinct: BTreeSet<u32> = all.clone().map(|colour| colour.light).collect();
        assert_eq!(distinct.len(), all.count());
        assert!(css().contains(".chart [fill=\"#0072B2\"]{fill:var(--readiness)}"));
    }
}
