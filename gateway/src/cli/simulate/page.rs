//! The results as one HTML page that needs nothing else: no script from elsewhere, no font, no network. The charts are drawn by
//! a few lines of its own from the same values that `--json` prints.

use serde_json::json;

use super::{About, Tried, table};

/// The page.
pub(super) fn page(tried: &[Tried], about: &About) -> String {
    let runs: Vec<_> = tried
        .iter()
        .map(|one| {
            let mut value = table::value(one);
            let course = &one.outcome.course;
            value["step"] = json!(one.outcome.step.as_secs_f64());
            value["course"] =
                json!(course.iter().map(|p| [p.ready, p.running, p.waiting, p.late]).collect::<Vec<_>>());
            value
        })
        .collect();
    let data = json!({
        "late_after": humantime::format_duration(about.late_after).to_string(),
        "assumed": about.assumed,
        "notes": about.all_notes(tried).collect::<Vec<_>>(),
        "runs": runs,
    });
    // Inside a script element nothing begins with this that means anything.
    let data = data.to_string().replace('<', "\\u003c");
    include_str!("page.html").replace("/*DATA*/null", &data)
}

#[cfg(test)]
mod tests {
    use tidegate_config::model::ScalingPolicy;

    use super::*;
    use crate::{
        cli::simulate::settings::{self, Setting},
        simulate::replay::Outcome,
    };

    fn of(setting: Setting) -> Tried {
        Tried { setting, outcome: Outcome::default(), notes: Vec::new() }
    }

    #[test]
    fn a_setting_has_the_colour_of_its_law() {
        let work = settings::read(&ScalingPolicy::default(), "late_worth=5s").expect("good");
        let file = Setting::own(
            "as in work/tidegate.toml".to_owned(),
            settings::read(&ScalingPolicy::default(), "kpa").expect("good").scaling,
        );
        let tried = [work, file].map(of);
        let page = page(&tried, &About::default());
        let laws: Vec<_> =
            page.match_indices("\"policy\":\"").map(|(at, key)| &page[at + key.len()..][..3]).collect();
        assert_eq!(laws, ["wor", "kpa"]);
    }

    #[test]
    fn the_page_stands_alone_and_keeps_its_data_in() {
        let mut setting = settings::read(&ScalingPolicy::default(), "kpa").expect("good");
        setting.name = "</script><b>".to_owned();
        let page = page(&[of(setting)], &About::default());
        assert!(page.contains(r"\u003c/script>\u003cb>") && !page.contains("/*DATA*/"));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
