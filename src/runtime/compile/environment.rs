//! Environment variables that nothing has asked for yet, in a document that is refused.
//!
//! A provider or consumer that does not decode as a whole is not compiled, so nobody reads its secrets. An
//! operator who mends what was wrong with it should not find a missing variable only then.

use serde_json::Value;

use super::{Compiler, Environment, ROOT};
use crate::config::decode::{FromText as _, Place};
use crate::config::error::Errors;
use crate::config::secrets::EnvironmentName;

/// What is wrong with the variables of all `{env: NAME}` in the document.
pub(super) fn unread_variables(document: &Value, environment: Environment<'_>) -> Errors {
    let mut compiler = Compiler::new(environment, Errors::default());
    visit(&mut compiler, document, ROOT);
    compiler.errors
}

fn visit(compiler: &mut Compiler<'_>, value: &Value, location: Place<'_>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                visit(compiler, element, location.element(index));
            }
        }
        Value::Object(members) => {
            if let (Some(Value::String(name)), 1) = (members.get("env"), members.len()) {
                variable(compiler, name, location.member("env"));
            }
            for (key, member) in members {
                visit(compiler, member, location.member(key));
            }
        }
        _ => {}
    }
}

fn variable(compiler: &mut Compiler<'_>, name: &str, location: Place<'_>) {
    // Any other text is an error of decoding.
    if let Ok(name) = EnvironmentName::from_text(name) {
        compiler.environment_secret(&name, location);
    }
}
