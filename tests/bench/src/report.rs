//! The figures, as a table in the terminal, as JSON (a list of `{name, unit, value, peer, peer_value, ratio, how}`, one entry a figure
//! and peer) and as a picture (`plot.rs`).

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    /// `None`: it could not be measured, and `how` says why.
    pub value: Option<f64>,
    /// What it stands beside.
    pub peers: Vec<Peer>,
    pub how: String,
}

#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub value: Option<f64>,
    /// Where it differs from the figure's: why there is no value, or what else must be known.
    pub how: Option<String>,
}

impl Figure {
    pub fn beside(&mut self, peer: &str, value: f64) -> &mut Figure {
        self.peers.push(Peer { name: peer.into(), value: Some(value), how: None });
        self
    }

    /// With a word on how the peer was measured, or why it was not.
    pub fn beside_if(&mut self, peer: &str, value: Option<f64>, how: impl Into<String>) -> &mut Figure {
        self.peers.push(Peer { name: peer.into(), value, how: Some(how.into()) });
        self
    }

    /// Times and sizes: the smaller, the better.
    pub fn less_is_better(&self) -> bool {
        matches!(self.unit, "us" | "us/s" | "ms" | "s" | "KB" | "MB" | "B/B" | "frames")
    }
}

#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub fn add(&mut self, name: &str, unit: &'static str, value: impl Into<Option<f64>>, how: impl Into<String>) -> &mut Figure {
        self.figures.push(Figure { name: name.into(), unit, value: value.into(), peers: Vec::new(), how: how.into() });
        self.figures.last_mut().expect("one was pushed")
    }

    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    pub fn print(&self) {
        println!("\n{:<52} {:>10} {:<8} {:>10} {:>7}  peer", "what", "value", "unit", "peer's", "ratio");
        for figure in &self.figures {
            let value = figure.value.map_or_else(|| "absent".into(), number);
            let mut line = format!("{:<52} {value:>10} {:<8}", figure.name, figure.unit);
            if figure.peers.is_empty() {
                println!("{}", line.trim_end());
            }
            for peer in &figure.peers {
                let peer_value = peer.value.map_or_else(|| "absent".into(), number);
                let ratio = ratio(figure.value, peer.value).map_or_else(String::new, |r| format!("{r:.2}"));
                println!("{line} {peer_value:>10} {ratio:>7}  {}", peer.name);
                line = format!("{:<72}", "");
            }
        }
    }

    fn to_json(&self) -> Value {
        let entry = |figure: &Figure, peer: Option<&Peer>| {
            let peer_value = peer.and_then(|peer| peer.value);
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "value": figure.value,
                "peer": peer.map(|peer| &peer.name),
                "peer_value": peer_value,
                "ratio": ratio(figure.value, peer_value),
                "how": match peer.and_then(|peer| peer.how.as_ref()) {
                    Some(how) => format!("{}; peer: {how}", figure.how),
                    None => figure.how.clone(),
                },
            })
        };
        let entries = self.figures.iter().flat_map(|figure| match figure.peers.is_empty() {
            true => vec![entry(figure, None)],
            false => figure.peers.iter().map(|peer| entry(figure, Some(peer))).collect(),
        });
        Value::Array(entries.collect())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&self.to_json())?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}

fn ratio(value: Option<f64>, peer: Option<f64>) -> Option<f64> {
    let ratio = value? / peer?;
    ratio.is_finite().then_some(ratio)
}

pub fn number(value: f64) -> String {
    // Whole numbers are counts.
    if value.abs() >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_all_keys() {
        let mut report = Report::default();
        report.add("a", "us", 2.0, "so");
        report.add("b", "us", 2.0, "so").beside("webhook", 8.0).beside_if("other", None, "not installed");
        report.add("c", "us", 2.0, "so").beside("nothing", 0.0);
        report.add("d", "calls", None, "no bridge yet").beside("other", 7.0);
        let json = report.to_json();
        assert_eq!(json[0], json!({"name": "a", "unit": "us", "value": 2.0, "peer": null, "peer_value": null, "ratio": null, "how": "so"}));
        assert_eq!(json[1]["ratio"], 0.25);
        assert_eq!((&json[2]["peer_value"], &json[2]["how"]), (&Value::Null, &json!("so; peer: not installed")));
        assert_eq!(json[3]["ratio"], Value::Null);
        assert_eq!((&json[4]["value"], &json[4]["peer_value"], &json[4]["ratio"]), (&Value::Null, &json!(7.0), &Value::Null));
    }
}
