//! The cases, by the part of the contract that they are about.

use crate::Case;

/// `case!(Group, function, [Need, ..], "what is promised")`: the function's name is the case's.
macro_rules! case {
    ($group:ident, $name:ident, [$($need:ident),*], $promise:literal) => {
        $crate::Case::new(
            $crate::Group::$group,
            stringify!($name),
            $promise,
            |cx| Box::pin($name(cx)),
        )
        .with_needs(&[$($crate::Need::$need),*])
    };
}

mod admin;
mod capabilities;
mod dead_letter;
mod dedup;
mod delay;
mod errors;
mod lease;
mod limits;
mod ordering;
mod receive;
mod send;
mod settle;

/// All cases, by group.
pub fn cases() -> Vec<Case> {
    [
        send::CASES,
        receive::CASES,
        settle::CASES,
        lease::CASES,
        dead_letter::CASES,
        ordering::CASES,
        delay::CASES,
        dedup::CASES,
        admin::CASES,
        errors::CASES,
        capabilities::CASES,
        limits::CASES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Group, Need};

    #[test]
    fn every_name_is_there_once_and_every_promise_is_a_sentence() {
        let cases = cases();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            assert!(
                case.promise.ends_with('.'),
                "{}: {}",
                case.name,
                case.promise
            );
            assert!(case.promise.len() <= 110, "{}: {}", case.name, case.promise);
        }
    }

    #[test]
    fn there_are_cases_of_every_group() {
        let groups: BTreeSet<Group> = cases().iter().map(|case| case.group).collect();
        assert_eq!(groups.len(), 11);
        let needs = cases().iter().flat_map(|case| case.needs).count();
        assert!(needs > 20);
        assert!(cases().iter().any(|case| case.needs == [Need::Cut]));
    }
}
