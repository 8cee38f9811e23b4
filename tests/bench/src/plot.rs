//! The figures as a picture: a row a figure that stands beside something, a bar for us and a thinner one for each peer, every row in
//! its own measure. Plain SVG, so that it can be looked at without anything installed.

use crate::report::{Figure, Report, number};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

const WIDTH: f64 = 1100.0;
/// Where bars begin, and the room for a value behind the longest.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 64.0;
const OURS: &str = "#1f6fb2";
const THEIRS: &str = "#b9bec6";

pub fn write(report: &Report, path: &Path) -> Result<()> {
    std::fs::write(path, draw(report.figures())).with_context(|| path.display().to_string())
}

fn draw(figures: &[Figure]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for figure in figures.iter().filter(|figure| !figure.peers.is_empty()) {
        let most = figure.peers.iter().filter_map(|peer| peer.value).chain(figure.value).fold(0.0, f64::max);
        let better = if figure.less_is_better() { "less is better" } else { "more is better" };
        text(&mut body, 16.0, y + 14.0, "font-weight='bold'", &figure.name);
        text(&mut body, WIDTH - 16.0, y + 14.0, "text-anchor='end' fill='#777'", &format!("{}, {better}", figure.unit));
        y += 22.0;
        bar(&mut body, y, 18.0, OURS, "hookswitch", figure.value, most);
        y += 22.0;
        for peer in &figure.peers {
            bar(&mut body, y, 12.0, THEIRS, &peer.name, peer.value, most);
            y += 17.0;
        }
        y += 16.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y}' viewBox='0 0 {WIDTH} {y}' font-family='sans-serif' font-size='13'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='16' y='28' font-size='19' font-weight='bold'>hookswitch beside its peers, one core, same run</text>\n\
         <text x='16' y='48' fill='#777'>medians; each row has its own scale; how each was measured is in bench.json and docs/bench.md</text>\n\
         {body}</svg>\n"
    )
}

fn bar(out: &mut String, y: f64, height: f64, colour: &str, name: &str, value: Option<f64>, most: f64) {
    text(out, LEFT - 10.0, y + height - 3.0, "text-anchor='end'", name);
    let length = match value {
        Some(value) if most > 0.0 => (value / most * (WIDTH - LEFT - RIGHT)).max(1.0),
        _ => 0.0,
    };
    let _ = writeln!(out, "<rect x='{LEFT}' y='{y}' width='{length:.1}' height='{height}' fill='{colour}'/>");
    let label = value.map_or_else(|| "absent".into(), number);
    text(out, LEFT + length + 6.0, y + height - 3.0, if value.is_some() { "" } else { "fill='#999' font-style='italic'" }, &label);
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x='{x:.1}' y='{y:.1}' {style}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_to_scale_and_words_are_escaped() {
        let mut report = Report::default();
        report.add("alone", "us", 1.0, "");
        report.add("a < b", "calls", 500.0, "").beside("half & half", 250.0).beside_if("nobody", None, "");
        let svg = draw(report.figures());
        assert!(!svg.contains("alone"));
        assert!(svg.contains("a &lt; b") && svg.contains("half &amp; half") && svg.contains(">absent<"));
        let full = WIDTH - LEFT - RIGHT;
        assert!(svg.contains(&format!("width='{full:.1}'")) && svg.contains(&format!("width='{:.1}'", full / 2.0)));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
