//! The shipped configuration and policies, parsed once: parsing them takes longer than most decisions.

use std::sync::LazyLock;

use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;

/// The shipped configuration.
pub(crate) static CONFIGURATION: LazyLock<Configuration> = LazyLock::new(|| Configuration::shipped().unwrap());

/// The shipped policies.
pub(crate) static POLICIES: LazyLock<PolicySet> =
    LazyLock::new(|| PolicySet::shipped(&CONFIGURATION.site.label_domain).unwrap());
