//! Every maximum of the simulator, with its reason. What a handler may use is the same as in the node.

use std::time::Duration;

/// Bytes of a scenario or capture file. One of a hundred steps has some kilobytes, a capture up to 64 KB and its indentation.
pub const FILE: u64 = 4 << 20;
/// Virtual time of a simulated call: an hour takes some seconds. A scenario that waits for longer is refused, a call that lasts longer is hung up.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// The longest call of a scenario that says nothing: nobody wants to look at more.
pub const USUAL: Duration = Duration::from_secs(600);
/// Steps of a scenario. More is a mistake.
pub const STEPS: usize = 1000;
/// Phones that can be called: hosts of a simulated world have one byte.
pub const CALLEES: usize = 32;
/// Digits of one step.
pub const DIGITS: usize = 64;
/// Lines of a ladder that a snapshot is compared with line by line: a difference of longer ones is told by its first line alone.
pub const DIFF_LINES: usize = 4000;
