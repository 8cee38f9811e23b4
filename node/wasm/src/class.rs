//! Size classes of components: what a component of so many bytes may be and use.

use crate::limits;

/// How large a component is. Which classes a tenant may upload is the operator's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Rust, C and JavaScript: up to [`limits::COMPONENT_BYTES`].
    #[default]
    Standard,
    /// A whole interpreter with its libraries, as Python's: up to [`limits::COMPONENT_BYTES_LARGE`], with more modules and memory.
    Large,
}

impl Class {
    /// The class of a component of so many bytes.
    pub fn of(bytes: usize) -> Class {
        if bytes > limits::COMPONENT_BYTES { Class::Large } else { Class::Standard }
    }

    /// The most bytes of such a component.
    pub fn component_bytes(self) -> usize {
        match self {
            Class::Standard => limits::COMPONENT_BYTES,
            Class::Large => limits::COMPONENT_BYTES_LARGE,
        }
    }

    /// The sum of an instance's linear memories.
    pub fn memory_bytes(self) -> usize {
        match self {
            Class::Standard => limits::MEMORY_BYTES,
            Class::Large => limits::MEMORY_BYTES_MAX,
        }
    }

    pub(crate) fn core_modules(self) -> usize {
        match self {
            Class::Standard => limits::CORE_MODULES,
            Class::Large => limits::CORE_MODULES_LARGE,
        }
    }

    pub(crate) fn core_instances(self) -> usize {
        match self {
            Class::Standard => limits::CORE_INSTANCES,
            Class::Large => limits::CORE_INSTANCES_LARGE,
        }
    }
}
