//! The figures, as a table in the terminal and as JSON: a list of `{name, unit, value, peer, peer_value, ratio, how}`.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Clone, Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    /// What it stands beside, and that one's value.
    peer: Option<(String, f64)>,
    how: String,
}

#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub fn add(&mut self, name: &str, unit: &'static str, value: f64, how: impl Into<String>) {
        self.figures.push(Figure { name: name.into(), unit, value, peer: None, how: how.into() });
    }

    pub fn add_beside(&mut self, name: &str, unit: &'static str, value: f64, peer: &str, peer_value: f64, how: impl Into<String>) {
        self.figures.push(Figure { name: name.into(), unit, value, peer: Some((peer.into(), peer_value)), how: how.into() });
    }

    pub fn print(&self) {
        println!("\n{:<44} {:>12} {:<8} {:>12}  {:<28} {:>7}", "what", "value", "unit", "peer value", "peer", "ratio");
        for figure in &self.figures {
            let (peer, peer_value, ratio) = match &figure.peer {
                Some((peer, value)) => {
                    (peer.as_str(), number(*value), ratio(figure.value, *value).map_or_else(String::new, |r| format!("{r:.2}")))
                }
                None => ("", String::new(), String::new()),
            };
            println!("{:<44} {:>12} {:<8} {peer_value:>12}  {peer:<28} {ratio:>7}", figure.name, number(figure.value), figure.unit);
        }
    }

    fn to_json(&self) -> Value {
        let figure = |f: &Figure| {
            let peer_value = f.peer.as_ref().map(|(_, value)| *value);
            json!({
                "name": f.name,
                "unit": f.unit,
                "value": f.value,
                "peer": f.peer.as_ref().map(|(peer, _)| peer),
                "peer_value": peer_value,
                "ratio": peer_value.and_then(|value| ratio(f.value, value)),
                "how": f.how,
            })
        };
        Value::Array(self.figures.iter().map(figure).collect())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&self.to_json())?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}

fn ratio(value: f64, peer: f64) -> Option<f64> {
    let ratio = value / peer;
    ratio.is_finite().then_some(ratio)
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_all_keys() {
        let mut report = Report::default();
        report.add("a", "us", 2.0, "so");
        report.add_beside("b", "us", 2.0, "webhook", 8.0, "so");
        report.add_beside("c", "us", 2.0, "nothing", 0.0, "so");
        let json = report.to_json();
        assert_eq!(json[0], json!({"name": "a", "unit": "us", "value": 2.0, "peer": null, "peer_value": null, "ratio": null, "how": "so"}));
        assert_eq!(json[1]["ratio"], 0.25);
        assert_eq!(json[2]["ratio"], Value::Null);
    }
}
