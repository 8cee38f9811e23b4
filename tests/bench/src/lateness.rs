//! How late media ticks begin, from the node's own histogram (`hookswitch_tick_lateness_seconds`): of the ticks between two looks at it.

use crate::node::Node;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

const BUCKET: &str = "hookswitch_tick_lateness_seconds_bucket{le=\"";

/// Upper edges in seconds, and how many ticks since the node's start were earlier than that.
#[derive(Clone, Debug, PartialEq)]
pub struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    pub fn of(node: &Node) -> Result<Lateness> {
        let lateness = Lateness::read(&node.metrics()?);
        ensure!(!lateness.0.is_empty(), "the node has no {BUCKET}");
        Ok(lateness)
    }

    fn read(metrics: &BTreeMap<String, f64>) -> Lateness {
        let edge = |name: &str| name.strip_prefix(BUCKET)?.strip_suffix("\"}")?.parse::<f64>().ok().filter(|edge| edge.is_finite());
        let mut buckets: Vec<(f64, f64)> = metrics.iter().filter_map(|(name, ticks)| Some((edge(name)?, *ticks))).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Lateness(buckets)
    }

    /// Of the ticks since `before`: so many milliseconds late, or less, was this part of them. Within a bucket they are taken as spread evenly.
    pub fn since(&self, before: &Lateness, part: f64) -> Option<f64> {
        let counts: Vec<(f64, f64)> = self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1)).collect();
        let wanted = counts.last()?.1 * part;
        let (mut edge, mut seen) = (0.0, 0.0);
        for (next, ticks) in counts {
            if ticks >= wanted && ticks > seen {
                return Some((edge + (next - edge) * (wanted - seen) / (ticks - seen)) * 1000.0);
            }
            (edge, seen) = (next, ticks);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_ticks_between_two_looks() {
        let read = |counts: [f64; 3]| {
            let lines = ["0.001", "0.002", "0.004"].iter().zip(counts).map(|(edge, ticks)| (format!("{BUCKET}{edge}\"}}"), ticks));
            Lateness::read(&lines.chain([(format!("{BUCKET}+Inf\"}}"), 999.0), ("other".into(), 1.0)]).collect())
        };
        let (before, now) = (read([50.0, 50.0, 60.0]), read([140.0, 150.0, 160.0]));
        assert_eq!(now.0.len(), 3);
        assert_eq!(now.since(&before, 0.9), Some(1.0));
        assert_eq!(now.since(&before, 0.45), Some(0.5));
        assert_eq!(now.since(&before, 0.95), Some(1.5), "half of the ten between one and two");
        assert_eq!(now.since(&now, 0.99), None, "there were none");
    }
}
