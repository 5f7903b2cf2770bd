//! A body or a query read field by field, with the contract's words for what is wrong (they are pydantic's, and
//! programs read them). All that is wrong is told at once. Pure.

use serde_json::{Map, Value, json};

use super::answer::Refusal;

/// The fields of one request, and what was found wrong with them so far.
#[derive(Debug)]
pub struct Fields<'a> {
    place: &'static str,
    values: &'a Map<String, Value>,
    wrong: Vec<Value>,
}

impl<'a> Fields<'a> {
    /// Those of a body.
    pub fn of_body(values: &'a Map<String, Value>) -> Self {
        Self { place: "body", values, wrong: Vec::new() }
    }

    /// Those of a query: all values are texts.
    pub fn of_query(values: &'a Map<String, Value>) -> Self {
        Self { place: "query", values, wrong: Vec::new() }
    }

    /// A text of so many characters; empty when it is wrong.
    pub fn text(&mut self, name: &str, shortest: usize, longest: usize) -> String {
        let Some(value) = self.values.get(name) else {
            self.missing(name);
            return String::new();
        };
        self.as_text(name, value, shortest, longest).unwrap_or_default()
    }

    /// A text of any length; empty when it is wrong.
    pub fn any_text(&mut self, name: &str) -> String {
        self.text(name, 0, usize::MAX)
    }

    /// A text that may be left out or null.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        let value = self.given(name)?;
        self.as_text(name, value, 0, usize::MAX)
    }

    /// A whole number that may be left out or null; a text of digits is one.
    pub fn optional_int(&mut self, name: &str) -> Option<i64> {
        let value = self.given(name)?;
        self.as_int(name, value)
    }

    /// A whole number within bounds, or `otherwise` where it is left out.
    pub fn int(&mut self, name: &str, from: i64, to: i64, otherwise: i64) -> i64 {
        let Some(value) = self.values.get(name) else {
            return otherwise;
        };
        let Some(number) = self.as_int(name, value) else {
            return otherwise;
        };
        if number > to {
            let message = format!("Input should be less than or equal to {to}");
            self.refuse("less_than_equal", name, &message, value, Some(json!({"le": to})));
        } else if number < from {
            let message = format!("Input should be greater than or equal to {from}");
            self.refuse("greater_than_equal", name, &message, value, Some(json!({"ge": from})));
        }
        number
    }

    /// A number that may be left out or null.
    pub fn optional_float(&mut self, name: &str) -> Option<f64> {
        let value = self.given(name)?;
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
            _ => None,
        };
        if number.is_none() {
            let (kind, message) = match value {
                Value::String(_) => {
                    ("float_parsing", "Input should be a valid number, unable to parse string as a number")
                }
                _ => ("float_type", "Input should be a valid number"),
            };
            self.refuse(kind, name, message, value, None);
        }
        number
    }

    /// Texts, or none where the field is left out.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let list = match self.values.get(name) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.refuse("list_type", name, "Input should be a valid list", other, None);
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text.clone()),
                other => self.wrong.push(json!({
                    "type": "string_type",
                    "loc": [self.place, name, at],
                    "msg": "Input should be a valid string",
                    "input": other,
                })),
            }
        }
        texts
    }

    /// Yes or no, or `otherwise` where the field is left out.
    pub fn flag(&mut self, name: &str, otherwise: bool) -> bool {
        let Some(value) = self.values.get(name) else {
            return otherwise;
        };
        let text = match value {
            Value::Bool(yes) => return *yes,
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.to_ascii_lowercase(),
            other => {
                self.refuse("bool_type", name, "Input should be a valid boolean", other, None);
                return otherwise;
            }
        };
        match text.as_str() {
            "1" | "1.0" | "true" | "t" | "yes" | "y" | "on" => true,
            "0" | "0.0" | "false" | "f" | "no" | "n" | "off" => false,
            _ => {
                let message = "Input should be a valid boolean, unable to interpret input";
                self.refuse("bool_parsing", name, message, value, None);
                otherwise
            }
        }
    }

    /// Nothing was wrong.
    ///
    /// # Errors
    /// All that was.
    pub fn end(self) -> Result<(), Refusal> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Refusal::Fields(self.wrong)) }
    }

    fn given(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn as_text(&mut self, name: &str, value: &Value, shortest: usize, longest: usize) -> Option<String> {
        let Value::String(text) = value else {
            self.refuse("string_type", name, "Input should be a valid string", value, None);
            return None;
        };
        let length = text.chars().count();
        let characters = |number| if number == 1 { "character" } else { "characters" };
        if length < shortest {
            let message = format!("String should have at least {shortest} {}", characters(shortest));
            let bound = Some(json!({"min_length": shortest}));
            self.refuse("string_too_short", name, &message, value, bound);
        } else if length > longest {
            let message = format!("String should have at most {longest} {}", characters(longest));
            let bound = Some(json!({"max_length": longest}));
            self.refuse("string_too_long", name, &message, value, bound);
        }
        Some(text.clone())
    }

    fn as_int(&mut self, name: &str, value: &Value) -> Option<i64> {
        let (number, kind, message) = match value {
            Value::Number(number) if number.is_f64() => (
                number.as_f64().and_then(whole),
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            ),
            Value::Number(number) => (
                number.as_i64(),
                "int_parsing_size",
                "Unable to parse input string as an integer, exceeded maximum size",
            ),
            Value::Bool(yes) => (Some(i64::from(*yes)), "", ""),
            Value::String(text) => (
                text.trim().parse().ok(),
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
            ),
            _ => (None, "int_type", "Input should be a valid integer"),
        };
        if number.is_none() {
            self.refuse(kind, name, message, value, None);
        }
        number
    }

    fn missing(&mut self, name: &str) {
        // A body shows what came instead; a query has no one value to show.
        let input = match self.place {
            "body" => Value::Object(self.values.clone()),
            _ => Value::Null,
        };
        self.wrong.push(problem("missing", &json!([self.place, name]), "Field required", &input));
    }

    fn refuse(&mut self, kind: &str, name: &str, message: &str, input: &Value, bound: Option<Value>) {
        let mut problem = problem(kind, &json!([self.place, name]), message, input);
        if let (Some(bound), Some(fields)) = (bound, problem.as_object_mut()) {
            fields.insert("ctx".to_owned(), bound);
        }
        self.wrong.push(problem);
    }
}

/// One thing that is wrong.
pub fn problem(kind: &str, place: &Value, message: &str, input: &Value) -> Value {
    json!({"type": kind, "loc": place, "msg": message, "input": input})
}

/// A float that stands for a whole number, as JSON writers leave them.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "only numbers that an f64 holds exactly come here")]
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::Fields;
    use crate::http::answer::Refusal;
    use serde_json::{Map, Value, json};

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn kinds(end: Result<(), Refusal>) -> Vec<String> {
        let Err(Refusal::Fields(list)) = end else { return Vec::new() };
        list.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        let table = [
            (json!({}), None, ""),
            (json!({"n": null}), None, ""),
            (json!({"n": 12}), Some(12), ""),
            (json!({"n": "12"}), Some(12), ""),
            (json!({"n": 12.0}), Some(12), ""),
            (json!({"n": true}), Some(1), ""),
            (json!({"n": 12.5}), None, "int_from_float"),
            (json!({"n": "12.5"}), None, "int_parsing"),
            (json!({"n": u64::MAX}), None, "int_parsing_size"),
            (json!({"n": 1e300}), None, "int_from_float"),
            (json!({"n": []}), None, "int_type"),
        ];
        for (body, number, wrong) in table {
            let values = object(body.clone());
            let mut fields = Fields::of_body(&values);
            assert_eq!(fields.optional_int("n"), number, "{body}");
            assert_eq!(kinds(fields.end()).first().map_or("", String::as_str), wrong, "{body}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let values = object(json!({"name": "", "list": null, "yes": "maybe", "long": "жжж", "f": "x"}));
        let mut fields = Fields::of_body(&values);
        fields.text("name", 1, 128);
        fields.text("absent", 1, 128);
        fields.text("long", 1, 2);
        fields.texts("list");
        fields.flag("yes", false);
        fields.optional_float("f");
        let expected =
            ["string_too_short", "missing", "string_too_long", "list_type", "bool_parsing", "float_parsing"];
        assert_eq!(kinds(fields.end()), expected);
    }

    #[test]
    fn a_query_holds_texts_and_bounds_are_kept() {
        let table = [
            (json!({}), 50, ""),
            (json!({"limit": "7"}), 7, ""),
            (json!({"limit": "201"}), 201, "less_than_equal"),
            (json!({"limit": "-1"}), -1, "greater_than_equal"),
            (json!({"limit": "abc"}), 50, "int_parsing"),
        ];
        for (query, number, wrong) in table {
            let values = object(query.clone());
            let mut fields = Fields::of_query(&values);
            assert_eq!(fields.int("limit", 1, 200, 50), number, "{query}");
            assert_eq!(kinds(fields.end()).first().map_or("", String::as_str), wrong, "{query}");
        }
    }
}
