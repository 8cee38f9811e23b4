//! A device's own clock: what it takes for the time, while the world's goes right.

use hookswitch_proto::Time;

const MILLION: i128 = 1_000_000;

/// Runs so many parts in a million fast (or slow, below zero). Quartz of telephones is within 100, of cheap ones within 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    pub ppm: i32,
}

impl Clock {
    /// What the device reads when it is `world`.
    pub fn local(self, world: Time) -> Time {
        let world = i128::from(world.0);
        time(world + (world * i128::from(self.ppm)).div_euclid(MILLION))
    }

    /// The first moment of the world at which the device reads `local` or more.
    pub fn world(self, local: Time) -> Time {
        let mut world = time(i128::from(local.0) * MILLION / (MILLION + i128::from(self.ppm)));
        while self.local(world) < local {
            world.0 += 1;
        }
        world
    }
}

fn time(nanos: i128) -> Time {
    Time(u64::try_from(nanos).unwrap_or(if nanos < 0 { 0 } else { u64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for ppm in [-200, -1, 0, 1, 200, 50_000] {
            let clock = Clock { ppm };
            for nanos in [0, 1, 19_999_999, 20_000_000, 3_600_000_000_000, 86_400_000_000_001] {
                let world = clock.world(Time(nanos));
                assert!(clock.local(world) >= Time(nanos), "{ppm} {nanos}");
                assert!(world == Time::ZERO || clock.local(Time(world.0 - 1)) < Time(nanos), "{ppm} {nanos}: not the first moment");
            }
        }
        assert_eq!(Clock { ppm: 200 }.local(Time::from_millis(3_600_000)), Time::from_millis(3_600_720));
    }
}
