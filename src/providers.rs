//! One file per wire format; each lists its rows of [`crate::provider::KINDS`].
pub mod compatible;
