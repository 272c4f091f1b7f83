// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The description, and whether an answer is one of those that it has.

use serde_json::Value;

use super::schema;

/// Answers that a request gets before the API sees it.
const OF_HTTP: [&str; 3] = ["403", "408", "413"];

/// A description.
#[derive(Debug)]
pub struct Document(Value);

impl Document {
    /// The one in `text`.
    pub fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap())
    }

    /// Whether `value` is what the schema `name` describes.
    ///
    /// # Errors
    /// What is not as described.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        schema::check(&self.0, self.schema(name), value)
    }

    fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// Path templates, methods and statuses.
    pub fn answers(&self) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                for status in operation["responses"].as_object().unwrap().keys() {
                    if !OF_HTTP.contains(&status.as_str()) {
                        let method = method.to_uppercase();
                        all.push((path.clone(), method, status.clone()));
                    }
                }
            }
        }
        all
    }

    /// The template that a path follows.
    pub fn template(&self, path: &str) -> Option<&str> {
        let follows = |template: &str| {
            let (one, other) = (template.split('/'), path.split('/'));
            one.clone().count() == other.clone().count()
                && one
                    .zip(other)
                    .all(|(is, part)| is == part || is == "{name}")
        };
        let paths = self.0["paths"].as_object().unwrap();
        paths.keys().map(String::as_str).find(|it| follows(it))
    }

    /// Fails if the description does not have this answer to a request: its status, media type
    /// and body.
    pub fn judge(&self, method: &str, path: &str, answer: (u16, &str, &str)) {
        let (status, content_type, body) = answer;
        let operation = self.template(path).map(|it| &self.0["paths"][it]);
        let operation = operation.map(|item| &item[method.to_lowercase()]);
        // Methods are told apart by case.
        let operation = operation.filter(|_| method == method.to_uppercase());
        let schema = match operation.filter(|it| it.is_object()) {
            Some(operation) => {
                let described = &operation["responses"][status.to_string()];
                assert!(described.is_object(), "{method} {path}: {answer:?}");
                match described.get("content") {
                    None => {
                        assert_eq!(body, "");
                        return;
                    }
                    Some(content) => {
                        let kind = content_type.split(';').next().unwrap_or(content_type);
                        assert!(content[kind].is_object(), "{answer:?}");
                        if kind != "application/json" {
                            return;
                        }
                        &content[kind]["schema"]
                    }
                }
            }
            None => {
                let is_there = self.template(path).is_some();
                assert_eq!(status, if is_there { 405 } else { 404 }, "{method} {path}");
                self.schema("Error")
            }
        };
        let body: Value = serde_json::from_str(body).unwrap();
        let judged = schema::check(&self.0, schema, &body);
        assert_eq!(judged, Ok(()), "{method} {path}: {body}");
    }
}
