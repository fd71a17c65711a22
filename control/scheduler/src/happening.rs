//! What happens in a cluster that may let a pod fit that did not.

/// One kind of happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A node came.
    NodeAdded,
    /// A node offers more or other resources, or images.
    NodeRoom,
    /// A node's labels changed.
    NodeLabels,
    /// A node's taints changed, or whether it takes new pods.
    NodeTaints,
    /// A pod left a node, or the place that was kept for it.
    PodGone,
    /// A pod came to a node, or one on a node changed its labels.
    PodPlaced,
    /// A claim came or changed.
    Claim,
    /// A volume or a storage class came or changed.
    Volume,
    /// The labels of a namespace changed.
    Namespace,
    /// A node has learned something.
    NodeFeatures,
    /// Devices came, changed or became free, or a class of them did.
    Devices,
    /// A claim to devices came or changed.
    DeviceClaim,
}

/// Some kinds of happenings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Happenings(u16);

impl Happenings {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    #[must_use]
    pub const fn of(kinds: &[Happening]) -> Self {
        let mut bits = 0;
        let mut rest = kinds;
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u16;
            rest = others;
        }
        Self(bits)
    }

    /// Both these and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this kind is one of them.
    #[must_use]
    pub const fn hold(self, kind: Happening) -> bool {
        self.0 & (1 << kind as u16) != 0
    }
}
