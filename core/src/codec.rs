//! Bodies as JSON.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Failure, FailureClass, Message, Result};

impl Message {
    /// A message whose body is `value` as JSON.
    ///
    /// ```
    /// use towpath_core::Message;
    ///
    /// let message = Message::json(&serde_json::json!({"order": 17}))?;
    /// assert_eq!(message.body(), r#"{"order":17}"#);
    /// # Ok::<(), towpath_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](ErrorKind::InvalidMessage) when `value` has no JSON form.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_vec(value).map(Self::new).map_err(|error| {
            Error::new(
                ErrorKind::InvalidMessage,
                format!(
                    "{} cannot be written as JSON: {error}",
                    std::any::type_name::<T>()
                ),
            )
            .with_source(error)
        })
    }
}

/// Decodes a JSON body; the failure is permanent and names the place.
pub(crate) fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json)
        .and_then(|value| match json.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(serde_path_to_error::Error::new(
                serde_path_to_error::Track::new().path(),
                error,
            )),
        })
        .map_err(|error| {
            let place = match error.path().to_string().as_str() {
                "." => String::new(),
                path => format!(" at {path}"),
            };
            Failure::permanent_as(
                FailureClass::Undecodable,
                format!(
                    "the body is not the expected JSON{place}: {}",
                    error.inner()
                ),
            )
        })
}
