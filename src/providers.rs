//! One file per wire format; each lists its rows of [`crate::provider::kinds`].
pub mod anthropic;
pub mod bedrock;
pub mod cohere;
pub mod compatible;
pub mod gemini;
pub mod vertex;
