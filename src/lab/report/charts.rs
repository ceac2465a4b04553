//! The charts: SVG to stand in a page, drawn narrow so that their text can be read on a telephone too.

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::{self, Colour};
use super::verdict::Outcome;
use super::words::{duration, ratio, short, tick};
use crate::lab::statistics::Summary;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// In units of the drawing, which a page scales.
const WIDTH: i32 = 400;
/// The column of names.
const NAMES: i32 = 92;
/// The column of values.
const VALUES: i32 = 58;
const TOP: i32 = 4;
const ROW: i32 = 22;
const AXIS: i32 = 26;
/// Half of a bar's height.
const HALF: i32 = 7;
/// The backend divides by 1.24: 13.5 in the drawing.
const TEXT: f64 = 13.5 * 1.24;

/// Why a row has no bar.
pub(super) struct Gap {
    pub(super) text: &'static str,
    pub(super) failed: bool,
}

/// One row of a chart of bars.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) colour: &'static Colour,
    pub(super) value: Result<Summary, Gap>,
}

/// One row of a chart of stacked bars.
pub(super) struct Stack {
    pub(super) name: String,
    pub(super) parts: Result<Vec<(&'static Colour, f64)>, Gap>,
    /// Stands behind the total.
    pub(super) mark: &'static str,
}

/// One row of a chart of ratios.
pub(super) struct RatioRow {
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) ratio: Summary,
}

/// Latency at several rates: requests a second, and p50, p99 and p99.9 in microseconds.
pub(super) type Curve = [(f64, [f64; 3])];

/// A picture with its description.
fn picture(description: &str, height: i32, draw: impl FnOnce(&Canvas) -> Drawn) -> Markup {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        draw(&canvas).and_then(|()| canvas.present()).expect("writing to a string does not fail");
    }
    // The opening tag has a fixed size and no description.
    let inside = svg.split_once('>').map_or("", |(_, inside)| inside).trim_end().trim_end_matches("</svg>");
    html! {
        svg class="chart" role="img" aria-label=(description) viewBox={ "0 0 " (WIDTH) " " (height) } {
            title { (description) }
            (PreEscaped(inside))
        }
    }
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn text(canvas: &Canvas, at: (i32, i32), align: HPos, colour: &Colour, words: impl Into<String>) -> Drawn {
    let style = text_style(colour).pos(Pos::new(align, VPos::Center));
    canvas.draw(&Text::new(words.into(), at, style))
}

fn text_style(colour: &Colour) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&colour.rgb())
}

fn block(canvas: &Canvas, from: (i32, i32), to: (i32, i32), colour: &Colour) -> Drawn {
    canvas.draw(&Rectangle::new([from, to], colour.rgb().filled()))
}

/// A line across an interval, with ends, on a rim of paper that sets it off from a bar.
fn whisker(canvas: &Canvas, [left, right]: [i32; 2], y: i32) -> Drawn {
    for (colour, width) in [(&palette::PAPER, 3), (&palette::INK, 1)] {
        let style = colour.rgb().stroke_width(width);
        canvas.draw(&PathElement::new([(left, y), (right, y)], style))?;
        for x in [left, right] {
            canvas.draw(&PathElement::new([(x, y - 4), (x, y + 4)], style))?;
        }
    }
    Ok(())
}

fn row_middle(row: usize) -> i32 {
    TOP + ROW * row as i32 + ROW / 2
}

/// Room for rows under an axis, and where on it a value is.
fn rows<X>(
    canvas: &Canvas,
    axis: X,
    show: impl Fn(f64) -> String,
) -> Result<impl Fn(f64) -> i32, DrawingAreaErrorKind<std::io::Error>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(canvas)
        .margin_top(TOP)
        .margin_left(NAMES)
        .margin_right(VALUES)
        .x_label_area_size(AXIS)
        .build_cartesian_2d(axis, 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(5)
        .bold_line_style(palette::GRID.rgb())
        .light_line_style(TRANSPARENT)
        .axis_style(palette::GRID.rgb())
        .x_label_style(text_style(&palette::MUTED))
        .x_label_formatter(&|value| tick(&show(*value)))
        .draw()?;
    Ok(move |value: f64| chart.backend_coord(&(value, 0.0)).0)
}

fn name(canvas: &Canvas, row: usize, name: &str) -> Drawn {
    const LONGEST: usize = 13;
    let cut = if name.chars().count() > LONGEST {
        name.chars().take(LONGEST - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    text(canvas, (NAMES - 6, row_middle(row)), HPos::Right, &palette::INK, cut)
}

fn gap(canvas: &Canvas, row: usize, gap: &Gap) -> Drawn {
    let colour = if gap.failed { &palette::FAILED } else { &palette::MUTED };
    text(canvas, (NAMES + 4, row_middle(row)), HPos::Left, colour, gap.text)
}

fn value(canvas: &Canvas, row: usize, words: String) -> Drawn {
    text(canvas, (WIDTH - 2, row_middle(row)), HPos::Right, &palette::INK, words)
}

/// The picture's height for so many rows.
fn height(rows: usize) -> i32 {
    TOP + ROW * rows as i32 + AXIS
}

/// A bar for each row, from nothing to the median, and a line across its interval.
pub(super) fn bars(description: &str, bars: &[Bar]) -> Markup {
    let measured = bars.iter().filter_map(|bar| bar.value.as_ref().ok());
    let most = measured.map(|value| value.interval[1].max(value.median)).fold(0.0, f64::max);
    picture(description, height(bars.len()), |canvas| {
        let place = rows(canvas, 0.0..above(most), short)?;
        for (row, bar) in bars.iter().enumerate() {
            name(canvas, row, &bar.name)?;
            match &bar.value {
                Err(why) => gap(canvas, row, why)?,
                Ok(summary) => {
                    let y = row_middle(row);
                    block(canvas, (place(0.0), y - HALF), (place(summary.median), y + HALF), bar.colour)?;
                    if summary.rounds > 1 {
                        whisker(canvas, summary.interval.map(&place), y)?;
                    }
                    value(canvas, row, short(summary.median))?;
                }
            }
        }
        Ok(())
    })
}

/// The end of an axis that reaches so far; never nothing.
fn above(most: f64) -> f64 {
    if most > 0.0 { most * 1.02 } else { 1.0 }
}

/// A bar for each row, made of parts, with its total.
pub(super) fn stacked(description: &str, stacks: &[Stack], show: fn(f64) -> String) -> Markup {
    let total = |parts: &[(&Colour, f64)]| parts.iter().map(|(_, size)| size.max(0.0)).sum::<f64>();
    let most = stacks.iter().filter_map(|stack| Some(total(stack.parts.as_ref().ok()?))).fold(0.0, f64::max);
    picture(description, height(stacks.len()), |canvas| {
        let place = rows(canvas, 0.0..above(most), show)?;
        for (row, stack) in stacks.iter().enumerate() {
            name(canvas, row, &stack.name)?;
            match &stack.parts {
                Err(why) => gap(canvas, row, why)?,
                Ok(parts) => {
                    let (y, mut reached) = (row_middle(row), 0.0);
                    for (colour, size) in parts.iter().filter(|(_, size)| *size > 0.0) {
                        let [from, to] = [reached, reached + size].map(&place);
                        // A part that is wide enough ends a little before the next one begins.
                        let end = if to - from > 3 { to - 1 } else { to };
                        block(canvas, (from, y - HALF), (end, y + HALF), colour)?;
                        reached += size;
                    }
                    value(canvas, row, format!("{}{}", show(total(parts)), stack.mark))?;
                }
            }
        }
        Ok(())
    })
}

/// A point and an interval for each row, on an axis on which half and double are as far from 1. The point is hollow
/// where no difference is shown.
pub(super) fn ratios(description: &str, ratios: &[RatioRow]) -> Markup {
    let ends = || ratios.iter().flat_map(|row| row.ratio.interval);
    let [least, most] = [ends().fold(0.6, f64::min), ends().fold(1.6, f64::max)];
    picture(description, height(ratios.len()), |canvas| {
        // Marks at halves and doubles; in a narrow picture between them, too.
        let base = if most / least > 4.0 { 2.0 } else { std::f64::consts::SQRT_2 };
        let place = rows(canvas, (least / 1.05..most * 1.05).log_scale().base(base), ratio)?;
        let one = [TOP, TOP + ROW * ratios.len() as i32].map(|y| (place(1.0), y));
        canvas.draw(&PathElement::new(one, palette::MUTED.rgb()))?;
        for (row, RatioRow { name: of, outcome, ratio: summary }) in ratios.iter().enumerate() {
            name(canvas, row, of)?;
            let y = row_middle(row);
            if summary.rounds > 1 {
                whisker(canvas, summary.interval.map(&place), y)?;
            }
            let shown = matches!(outcome, Outcome::Less | Outcome::More);
            let (centre, style) = ((place(summary.median), y), palette::INK.rgb().stroke_width(2));
            canvas.draw(&Circle::new(centre, 6, palette::PAPER.rgb().filled()))?;
            canvas.draw(&Circle::new(centre, 5, if shown { style.filled() } else { style }))?;
            value(canvas, row, ratio(summary.median))?;
        }
        Ok(())
    })
}

/// What the panels of a set have in common, so that they can be compared.
pub(super) struct Frame {
    rates: f64,
    latency: [f64; 2],
}

impl Frame {
    /// The frame that holds all these curves; `None` without a point.
    pub(super) fn around<'a>(curves: impl Iterator<Item = &'a Curve>) -> Option<Self> {
        let points: Vec<_> = curves.flatten().collect();
        let rates = points.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
        let values = || points.iter().flat_map(|(_, latency)| *latency).filter(|value| *value > 0.0);
        let latency = [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)];
        // Whole powers of ten, so that the axis has marks at its ends.
        let [low, high] =
            [latency[0].log10().floor(), (latency[1] * 1.01).log10().ceil()].map(|power| 10f64.powf(power));
        (rates > 0.0 && low.is_finite() && high > low)
            .then_some(Self { rates: rates * 1.04, latency: [low, high] })
    }
}

/// The latency of one subject under growing load: p50 with circles, p99 with triangles, p99.9 with crosses, and the p99
/// of the reference in grey.
pub(super) fn latency(
    description: &str,
    colour: &Colour,
    curve: &Curve,
    reference: &Curve,
    frame: &Frame,
) -> Markup {
    const HEIGHT: i32 = 220;
    let line = |of: &Curve, percentile: usize| -> Vec<(f64, f64)> {
        of.iter().map(|(rate, latency)| (*rate, latency[percentile].max(frame.latency[0]))).collect()
    };
    picture(description, HEIGHT, |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(10)
            .margin_right(16)
            .x_label_area_size(AXIS)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..frame.rates, (frame.latency[0]..frame.latency[1]).log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(5)
            .bold_line_style(palette::GRID.rgb())
            .light_line_style(TRANSPARENT)
            .axis_style(palette::GRID.rgb())
            .label_style(text_style(&palette::MUTED))
            .x_label_formatter(&|rate| thousands(*rate))
            .y_label_formatter(&|latency| tick(&duration(*latency)))
            .draw()?;
        chart.draw_series([PathElement::new(line(reference, 1), palette::MUTED.rgb().stroke_width(1))])?;
        for (percentile, width) in [2, 2, 1].into_iter().enumerate() {
            let points = line(curve, percentile);
            let style = colour.rgb().stroke_width(width);
            chart.draw_series([PathElement::new(points.clone(), style)])?;
            match percentile {
                0 => chart.draw_series(points.iter().map(|at| Circle::new(*at, 3, style.filled())))?,
                1 => {
                    chart.draw_series(points.iter().map(|at| TriangleMarker::new(*at, 5, style.filled())))?
                }
                _ => chart.draw_series(points.iter().map(|at| Cross::new(*at, 4, style)))?,
            };
        }
        Ok(())
    })
}

/// `40k` for 40,000 requests a second.
fn thousands(rate: f64) -> String {
    if rate >= 1_000.0 { tick(&short(rate / 1e3)) + "k" } else { tick(&short(rate)) }
}
