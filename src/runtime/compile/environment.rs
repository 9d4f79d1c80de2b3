//! Environment variables that nothing has asked for yet, in a document that is refused.
//!
//! A provider or consumer that does not decode as a whole is not compiled, so nobody reads its secrets. An
//! operator who mends what was wrong with it should not find a missing variable only then.

use deserr::{Deserr, ValuePointerRef};
use serde_json::Value;

use super::{Compiler, Environment, ROOT};
use crate::config::error::Errors;
use crate::config::secrets::EnvironmentName;

/// What is wrong with the variables of all `{env: NAME}` in the document.
pub(super) fn unread_variables(document: &Value, environment: Environment<'_>) -> Errors {
    let mut compiler = Compiler::new(environment, Errors::default());
    visit(&mut compiler, document, ROOT);
    compiler.errors
}

fn visit(compiler: &mut Compiler<'_>, value: &Value, location: ValuePointerRef<'_>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                visit(compiler, element, location.push_index(index));
            }
        }
        Value::Object(members) => {
            if let (Some(Value::String(name)), 1) = (members.get("env"), members.len()) {
                variable(compiler, name, location.push_key("env"));
            }
            for (key, member) in members {
                visit(compiler, member, location.push_key(key));
            }
        }
        _ => {}
    }
}

fn variable(compiler: &mut Compiler<'_>, name: &str, location: ValuePointerRef<'_>) {
    let value = deserr::Value::<Value>::String(name.to_owned());
    let name: Result<EnvironmentName, Errors> = Deserr::deserialize_from_value(value, location);
    // Any other text is an error of decoding.
    if let Ok(name) = name {
        compiler.environment_secret(&name, location);
    }
}
