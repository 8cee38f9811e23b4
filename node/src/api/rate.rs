//! How often a tenant may do what costs others time: a back office in a loop must not keep the signalling thread from calls, nor one that
//! uploads without end the core from everything. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    /// As many at once, after a pause.
    pub(super) burst: u32,
}

/// One bucket for each tenant. Domains that ask are tenants that exist, so there are no more buckets than that.
pub(super) struct Buckets {
    rate: Rate,
    tenants: HashMap<String, Bucket>,
}

struct Bucket {
    left: f64,
    at: Duration,
}

impl Buckets {
    pub(super) fn new(rate: Rate) -> Buckets {
        Buckets { rate, tenants: HashMap::new() }
    }

    /// Takes one, or says how long to wait for the next.
    pub(super) fn take(&mut self, now: Duration, domain: &str) -> Result<(), Duration> {
        self.take_at(now, domain, self.rate)
    }

    /// The same at this tenant's own rate.
    pub(super) fn take_at(&mut self, now: Duration, domain: &str, Rate { per_second, burst }: Rate) -> Result<(), Duration> {
        let burst = f64::from(burst);
        let bucket = self.tenants.entry(domain.to_owned()).or_insert(Bucket { left: burst, at: now });
        bucket.left = (bucket.left + now.saturating_sub(bucket.at).as_secs_f64() * per_second).min(burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / per_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_008_a_tenant_has_its_own_rate() {
        let mut buckets = Buckets::new(Rate { per_second: 2.0, burst: 3 });
        let at = Duration::from_millis;
        for _ in 0..3 {
            assert_eq!(buckets.take(at(0), "a"), Ok(()));
        }
        assert_eq!(buckets.take(at(0), "a"), Err(at(500)));
        assert_eq!(buckets.take(at(0), "b"), Ok(()));
        assert_eq!(buckets.take(at(500), "a"), Ok(()));
        assert!(buckets.take(at(501), "a").is_err());
        for _ in 0..3 {
            assert_eq!(buckets.take(at(100_000), "a"), Ok(()));
        }
        assert!(buckets.take(at(100_000), "a").is_err(), "a pause fills the bucket, no more");
    }
}
