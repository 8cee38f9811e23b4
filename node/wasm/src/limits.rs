//! Every maximum for what a guest may be, do and use, with its reason. What happens at a limit is said at each.

use std::time::Duration;

/// Bytes of an uploaded component. Rust, C and QuickJS handlers have 0.02 to 1.4 MB. Larger: refused at upload, unless the operator lets the
/// tenant have large ones.
pub const COMPONENT_BYTES: usize = 4 << 20;
/// Bytes of a large component. CPython with a handler has 19 MB. Larger: refused at upload.
pub const COMPONENT_BYTES_LARGE: usize = 32 << 20;
/// Nested components. `wit-component` makes one for each exported interface, without code in it. More: refused.
pub const NESTED_COMPONENTS: usize = 8;
/// Core modules: the guest, and the two that `wit-component` puts around it; a QuickJS handler has seven. More: refused.
pub const CORE_MODULES: usize = 8;
/// The same of a large component: CPython and its libraries are 38. More: refused.
pub const CORE_MODULES_LARGE: usize = 64;
/// Linear memories over all core modules. Their sum is bounded at run time as well. More: refused.
pub const MEMORIES: usize = 2;
/// Tables over all core modules: one of the guest's, one of the adapter's, and room for interpreters. More: refused.
pub const TABLES: usize = 8;
/// Core instances of one component: its modules and the small ones that only hold imports, of which QuickJS has some fifty. More: refused.
pub const CORE_INSTANCES: usize = 64;
/// The same of a large component: CPython has 119. More: refused.
pub const CORE_INSTANCES_LARGE: usize = 256;

/// Sum of an instance's linear memories. 4,000 calls with 1 MiB each still fit a small node. More: `memory.grow` fails.
pub const MEMORY_BYTES: usize = 16 << 20;
/// The same of a large component's instance: CPython begins with 14 MiB. Slots of the pool are made for it.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Elements of all of an instance's tables together; a table holds function pointers. More: `table.grow` fails.
pub const TABLE_ELEMENTS: usize = 20_000;
/// Native stack of a guest. Recursion beyond it traps.
pub const WASM_STACK: usize = 512 << 10;
/// The stack a guest and the host functions it calls run on. Only what is touched costs memory.
pub const ASYNC_STACK: usize = 1 << 20;
/// Bytes that are copied out of a guest in one call. Without it, a list that names the same string a million times would fill the node's memory.
/// More: the hook fails by the limit `size of the answer`.
pub const LIFTED_BYTES: usize = 256 << 10;

/// Length of an epoch: how soon a guest that loops gives way to others.
pub const TICK: Duration = Duration::from_millis(1);
/// CPU time of one hook, and of an instantiation. Hooks take microseconds; a runaway one stops here, and its instance is dropped.
pub const HOOK_CPU: Duration = Duration::from_millis(20);
/// The same as instructions, where they are counted in place of time: what a core of 3 GHz does in about 20 ms of guest code.
pub const HOOK_INSTRUCTIONS: u64 = 60_000_000;

/// Live instances: 10,000 calls, and some that begin while others end. The pool's address space is 4 GiB each of the 128 TiB there are. More: no
/// instance, and the hook fails by name. Where the kernel allows too few mappings for so many, there are as many as fit, and the node says so.
pub const INSTANCES: u32 = 10_240;
/// Mappings that an instance may split the process's address space into: two for its stack, four for its memory, and two to spare.
pub const INSTANCE_MAPPINGS: u64 = 8;
/// And what the rest of a node has: code, threads, files of recordings that are read.
pub const NODE_MAPPINGS: u64 = 4_096;
/// Bytes of linear memory that a free slot of the pool keeps, so that the next instance takes no page faults for them.
pub const KEEP_RESIDENT: usize = 128 << 10;
/// The same for tables.
pub const TABLE_KEEP_RESIDENT: usize = 32 << 10;
/// Free slots that stay bound to their module's memory image: as many calls as end and begin within a moment.
pub const WARM_SLOTS: u32 = 256;

/// Bytes of one line in the tenant's log. More is cut.
pub const LOG_LINE: usize = 1024;
/// Bytes that the instances of a session may write to the log: a chatty handler, not a flood. More is dropped and counted.
pub const LOG_BYTES: usize = 16 << 10;
/// Requests to the outside that one hook may wait for: each may take a second, and a caller waits for all of them. More: `limit`.
pub const FETCHES: u32 = 4;
/// Bytes of randomness in one call. More is cut: a guest that wants a megabyte asks often enough to be stopped.
pub const RANDOM_BYTES: u32 = 4096;
/// Bytes of a trap's text, backtrace included: enough for some twenty frames in a tenant's log.
pub const TRAP_TEXT: usize = 2048;
/// Frames of a backtrace. A recursion has 20,000.
pub const TRAP_FRAMES: usize = 16;
