//! Which topic and which subscription are meant.

use std::env;

/// A topic and one of its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The project of the topic.
    pub(crate) project: String,
    /// The topic's short name.
    pub(crate) topic: String,
    /// `projects/PROJECT/subscriptions/NAME`.
    pub(crate) subscription: String,
}

impl Address {
    /// Reads `my-project/orders`, `orders` or `projects/my-project/topics/orders`, and the name of
    /// a subscription.
    ///
    /// The error is a sentence that says what is wrong.
    pub(crate) fn parse(target: &str, subscription: Option<&str>) -> Result<Self, String> {
        let segments: Vec<&str> = target.trim_end_matches('/').split('/').collect();
        let (project, topic) = match segments[..] {
            ["projects", project, "topics", topic] | [project, topic] => {
                (project.to_owned(), topic)
            }
            [topic] => (project_of_environment(topic)?, topic),
            _ => {
                return Err(format!(
                    "{target:?} names no topic; write pubsub://PROJECT/TOPIC"
                ));
            }
        };
        check_project(&project)?;
        check_name("topic", topic)?;
        let subscription = match subscription {
            Some(name) if name.contains('/') => full_subscription(name)?,
            name => {
                let name = name.unwrap_or(topic);
                check_name("subscription", name)?;
                subscription_name(&project, name)
            }
        };
        Ok(Self {
            topic: topic.to_owned(),
            project,
            subscription,
        })
    }

    /// `projects/PROJECT/topics/TOPIC`.
    pub(crate) fn topic_name(&self) -> String {
        topic_name(&self.project, &self.topic)
    }

    /// The queue `name` beside this one: a topic, and a subscription of the same name.
    pub(crate) fn beside(&self, name: &str) -> Result<Self, String> {
        if name.contains('/') {
            Self::parse(name, None)
        } else {
            Self::parse(&format!("{}/{name}", self.project), None)
        }
    }
}

pub(crate) fn topic_name(project: &str, topic: &str) -> String {
    format!("projects/{project}/topics/{topic}")
}

fn subscription_name(project: &str, name: &str) -> String {
    format!("projects/{project}/subscriptions/{name}")
}

/// What stands behind the last `/`.
pub(crate) fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn project_of_environment(topic: &str) -> Result<String, String> {
    env::var("GOOGLE_CLOUD_PROJECT")
        .ok()
        .filter(|project| !project.is_empty())
        .ok_or_else(|| {
            format!(
                "{topic:?} has no project; write pubsub://PROJECT/{topic}, or set \
                 GOOGLE_CLOUD_PROJECT"
            )
        })
}

fn full_subscription(name: &str) -> Result<String, String> {
    match name.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, "subscriptions", short] => {
            check_project(project)?;
            check_name("subscription", short)?;
            Ok(name.to_owned())
        }
        _ => Err(format!(
            "{name:?} is no subscription; write NAME or projects/PROJECT/subscriptions/NAME"
        )),
    }
}

/// Project ids may have a domain in front: `example.com:my-project`.
fn check_project(project: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
    if project.is_empty() || !project.chars().all(legal) {
        return Err(format!("{project:?} is no project id"));
    }
    Ok(())
}

/// <https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    let is_legal = (3..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(legal)
        && !name.starts_with("goog");
    if is_legal {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a {what}: it has 3 to 255 letters, digits and -_.~+%, begins with \
         a letter, and not with \"goog\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_topic_and_a_subscription() {
        for (target, subscription, topic, wanted) in [
            (
                "p/orders",
                None,
                "projects/p/topics/orders",
                "projects/p/subscriptions/orders",
            ),
            (
                "p/orders",
                Some("bills"),
                "projects/p/topics/orders",
                "projects/p/subscriptions/bills",
            ),
            (
                "p/orders",
                Some("projects/q/subscriptions/bills"),
                "projects/p/topics/orders",
                "projects/q/subscriptions/bills",
            ),
            (
                "projects/a.b:p/topics/orders",
                None,
                "projects/a.b:p/topics/orders",
                "projects/a.b:p/subscriptions/orders",
            ),
        ] {
            let address = Address::parse(target, subscription).unwrap();
            assert_eq!(address.topic_name(), topic);
            assert_eq!(address.subscription, wanted);
        }
    }

    #[test]
    fn names_that_pubsub_does_not_have_are_refused() {
        for (target, subscription) in [
            ("p/", None),
            ("/orders", None),
            ("p/or", None),
            ("p/1orders", None),
            ("p/google-orders", None),
            ("p/or ders", None),
            ("p/q/orders", None),
            ("projects/p/subscriptions/orders", None),
            ("p/orders", Some("x")),
            ("p/orders", Some("p/orders-worker")),
            ("p q/orders", None),
        ] {
            assert!(
                Address::parse(target, subscription).is_err(),
                "{target} {subscription:?}"
            );
        }
    }

    #[test]
    fn a_dead_letter_queue_is_in_the_same_project() {
        let orders = Address::parse("p/orders", Some("bills")).unwrap();
        let dead = orders.beside("orders-dlq").unwrap();
        assert_eq!(dead.topic_name(), "projects/p/topics/orders-dlq");
        assert_eq!(dead.subscription, "projects/p/subscriptions/orders-dlq");
        let elsewhere = orders.beside("projects/q/topics/dlq").unwrap();
        assert_eq!(elsewhere.project, "q");
    }
}
