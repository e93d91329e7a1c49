//! Plots: bars with their intervals, and lines over a logarithmic axis.

use dfw_tests::cost::{Cost, Varied};
use plotters::prelude::*;

use super::ratios::Of;
use crate::{results::Results, rounds::TRIALS, statistics::Estimate};

/// A drawing.
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) title: String,
    /// Name of a trial, or `packets`.
    pub(crate) about: String,
    pub(crate) svg: String,
}

const WIDTH: u32 = 860;
/// For the names of bars.
const NAMES: u32 = 270;
const BAR: u32 = 26;
const OURS: RGBColor = RGBColor(0x1b, 0x7f, 0x5c);
const THEIRS: RGBColor = RGBColor(0x9a, 0xa3, 0xad);
const INK: RGBColor = RGBColor(0x30, 0x36, 0x3d);
const LINES: [RGBColor; 4] = [
    OURS,
    RGBColor(0x2f, 0x6f, 0xb7),
    RGBColor(0xc2, 0x5b, 0x12),
    RGBColor(0x7a, 0x4f, 0xa3),
];

/// Each of them.
pub(crate) fn all(results: &Results, cost: &Cost) -> Vec<Plot> {
    let mut plots: Vec<_> = TRIALS
        .iter()
        .filter_map(|trial| of_trial(results, trial.name, trial.title))
        .collect();
    plots.extend(
        Varied::ALL
            .into_iter()
            .filter_map(|varied| growth(cost, varied)),
    );
    plots
}

fn of_trial(results: &Results, trial: &str, title: &str) -> Option<Plot> {
    let base = results.base(trial)?;
    let bars: Vec<_> = results
        .contenders
        .iter()
        .filter(|contender| contender.id != base)
        .filter_map(|contender| {
            let ratio = results.ratio(trial, &contender.id, base, Of::Rate)?;
            Some((
                contender.title.as_str(),
                contender.id.contains("dfw"),
                ratio,
            ))
        })
        .collect();
    let title = format!("{title}: rate over {}", results.title(base));
    (!bars.is_empty()).then(|| Plot {
        file: format!("performance-{trial}.svg"),
        svg: draw_bars(&title, &bars),
        title,
        about: trial.to_owned(),
    })
}

fn draw_bars(title: &str, bars: &[(&str, bool, Estimate)]) -> String {
    let mut svg = String::new();
    let height = 70 + BAR * bars.len() as u32;
    let most = bars
        .iter()
        .map(|(.., ratio)| ratio.high)
        .fold(1.2, f64::max)
        * 1.08;
    let count = bars.len() as f64;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).expect("a string takes it");
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20).into_font().color(&INK))
            .margin(8)
            .margin_right(20)
            .set_label_area_size(LabelAreaPosition::Left, NAMES)
            .set_label_area_size(LabelAreaPosition::Bottom, 24)
            .build_cartesian_2d(0.0..most, 0.0..count)
            .expect("there is room");
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .x_label_formatter(&|x| format!("{x:.1}"))
            .label_style(("sans-serif", 15).into_font().color(&INK))
            .draw()
            .expect("a string takes it");
        let plain = [(1.0, 0.0), (1.0, count)];
        chart
            .draw_series(LineSeries::new(plain, INK.stroke_width(1)))
            .expect("a string takes it");
        for (at, (name, is_ours, ratio)) in bars.iter().enumerate() {
            let middle = count - at as f64 - 0.5;
            let colour = if *is_ours { OURS } else { THEIRS };
            let bar = [(0.0, middle - 0.34), (ratio.median, middle + 0.34)];
            let whisker = [(ratio.low, middle), (ratio.high, middle)];
            chart
                .draw_series([Rectangle::new(bar, colour.filled())])
                .expect("a string takes it");
            chart
                .draw_series([PathElement::new(whisker, INK.stroke_width(2))])
                .expect("a string takes it");
            let place = chart.backend_coord(&(0.0, middle));
            let style = ("sans-serif", 16).into_font().color(&INK);
            area.draw(&Text::new(
                (*name).to_owned(),
                (12, place.1 - 6),
                style.clone(),
            ))
            .expect("a string takes it");
            let figure = format!("{:.2}", ratio.median);
            let beside = chart.backend_coord(&(ratio.high, middle));
            area.draw(&Text::new(figure, (beside.0 + 6, beside.1 - 6), style))
                .expect("a string takes it");
        }
        area.present().expect("a string takes it");
    }
    svg + "\n"
}

type Point = (f64, f64);

/// Nanoseconds by the number of something; none where it was measured for one number only.
fn growth(cost: &Cost, varied: Varied) -> Option<Plot> {
    let mut lines: Vec<(String, Vec<Point>)> = Vec::new();
    let packets = cost.packets.iter();
    for packet in packets.filter(|packet| packet.varied == Some(varied)) {
        let name = format!("{}, {}", packet.what, packet.family);
        let point = (varied.of(packet).max(1) as f64, packet.median);
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    lines.retain(|(_, points)| points.len() > 1);
    let of = varied.name();
    let title = format!("Nanoseconds a packet by number of {of}");
    (!lines.is_empty()).then(|| Plot {
        file: format!("performance-{of}.svg"),
        svg: draw_lines(&title, of, &lines),
        title,
        about: "packets".to_owned(),
    })
}

fn draw_lines(title: &str, axis: &str, lines: &[(String, Vec<Point>)]) -> String {
    let mut svg = String::new();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let right = points().map(|point| point.0).fold(10.0, f64::max);
    let top = points().map(|point| point.1).fold(100.0, f64::max) * 1.1;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, 340)).into_drawing_area();
        area.fill(&WHITE).expect("a string takes it");
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20).into_font().color(&INK))
            .margin(8)
            .margin_right(20)
            .set_label_area_size(LabelAreaPosition::Left, 50)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d((1.0..right).log_scale(), 0.0..top)
            .expect("there is room");
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .x_desc(axis)
            .y_desc("ns")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .label_style(("sans-serif", 15).into_font().color(&INK))
            .draw()
            .expect("a string takes it");
        for ((name, points), colour) in lines.iter().zip(LINES.into_iter().cycle()) {
            let line =
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
            chart
                .draw_series(line)
                .expect("a string takes it")
                .label(name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .label_font(("sans-serif", 15).into_font().color(&INK))
            .draw()
            .expect("a string takes it");
        area.present().expect("a string takes it");
    }
    svg + "\n"
}
