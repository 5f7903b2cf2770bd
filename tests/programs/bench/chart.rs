//! The chart beside the page: bytes on the wire and time of the cases that people meet, one bar a program, logarithmic.

use std::fmt::Write;

use super::page::SHOWN;
use super::samples::{Measure, OURS, Samples};

const BAR: f64 = 14.0;
const GAP: f64 = 26.0;
const LABELS: f64 = 170.0;
const PANEL: f64 = 330.0;
const VALUE: f64 = 80.0;

pub fn chart(samples: &Samples, megabytes: u64) -> String {
    let panels = [(Measure::Wire, "bytes on the wire, kB", 0.1, 1e6), (Measure::Wall, "time, ms", 1.0, 1e5)];
    let (mut body, mut y) = (String::new(), 46.0);
    for case in SHOWN {
        let _ = writeln!(body, "<text x=\"10\" y=\"{y:.0}\" class=\"case\">{case}</text>");
        y += 8.0;
        for who in samples.who(megabytes, case) {
            let class = if who == OURS { "ours" } else { "other" };
            let _ = writeln!(body, "<text x=\"20\" y=\"{:.0}\">{who}</text>", y + BAR - 3.0);
            for (at, (what, _, low, high)) in panels.into_iter().enumerate() {
                let value = samples.median(megabytes, case, who, what).unwrap_or_default();
                let x = LABELS + at as f64 * (PANEL + VALUE);
                let width = PANEL * (value.max(low) / low).ln() / (high / low).ln();
                let _ = writeln!(
                    body,
                    "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{:.0}\" class=\"{class}\"/>\
                     <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                    width.max(1.0),
                    BAR - 2.0,
                    x + width + 5.0,
                    y + BAR - 3.0,
                    short(value)
                );
            }
            y += BAR;
        }
        y += GAP;
    }
    let width = LABELS + 2.0 * (PANEL + VALUE);
    let mut heads = String::new();
    for (at, (_, head, ..)) in panels.into_iter().enumerate() {
        let x = LABELS + at as f64 * (PANEL + VALUE);
        let _ = write!(heads, "<text x=\"{x:.0}\" y=\"20\" class=\"case\">{head}</text>");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {y:.0}\" role=\"img\" aria-label=\"A database of \
         {megabytes} MB: bytes on the wire and time of each program, on a logarithmic scale\">\n<style>text{{font:11px \
         sans-serif;fill:#333}}.case{{font-weight:bold}}.ours{{fill:#2a7f4f}}.other{{fill:#b8b8b8}}@media \
         (prefers-color-scheme:dark){{text{{fill:#ddd}}.other{{fill:#666}}}}</style>\n{heads}\n{body}</svg>\n"
    )
}

fn short(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
