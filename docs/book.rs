//! The book's code, as documentation tests: `cargo test -p towpath-book`. To read the book, install
//! mdBook and run `mdbook serve docs`.

macro_rules! chapters {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(#[cfg(doctest)] #[doc = include_str!($file)] mod $name {})*
    };
}

chapters! {
    introduction = "src/introduction.md",
    quick_start = "src/quick-start.md",
    concepts = "src/concepts.md",
    configuration = "src/configuration.md",
    worker = "src/worker.md",
    lambda_and_push = "src/lambda-and-push.md",
    aws = "src/production/aws.md",
    google_cloud = "src/production/google-cloud.md",
    moving = "src/production/moving.md",
    ops_page = "src/operate/ops-page.md",
    writing_a_backend = "src/extend/writing-a-backend.md",
}
