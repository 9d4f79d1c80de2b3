//! What tokens cost: a built-in table of list prices, and what the configuration says instead or besides.
//!
//! Money is counted in whole billionths of a US dollar. A price that is not known is none, never zero.

mod table;

use crate::usage::Usage;

/// Of one model at one provider, in millionths of a millionth of a US dollar per token (so a price of 2.50 US dollars
/// per million tokens is 2 500 000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u32,
    /// Read from a cache.
    pub cached_input: u32,
    /// Written to a cache.
    pub cache_write: u32,
    pub output: u32,
    /// Of the output, what is reasoning.
    pub reasoning: u32,
    /// What a long request costs instead.
    pub long: Option<Long>,
}

/// Requests whose input is larger than `above` tokens: all of their input and output costs so many per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Long {
    pub above: u32,
    pub input: u16,
    pub output: u16,
}

/// Prices of one provider that the configuration gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    /// Name of a model.
    pub exact: Vec<(String, Price)>,
    /// Start of a name, the longest first: for models that have no other price.
    pub prefixes: Vec<(String, Price)>,
}

impl Price {
    /// Billionths of a US dollar, rounded up.
    pub fn of(&self, usage: &Usage) -> u64 {
        let times = |tokens: u64, rate: u32| u128::from(tokens) * u128::from(rate);
        let plain = usage.prompt.saturating_sub(usage.cached).saturating_sub(usage.cache_write);
        let input = times(plain, self.input)
            + times(usage.cached, self.cached_input)
            + times(usage.cache_write, self.cache_write);
        let output = times(usage.completion.saturating_sub(usage.reasoning), self.output)
            + times(usage.reasoning, self.reasoning);
        let long = self.long.filter(|long| usage.prompt > u64::from(long.above));
        let (input, output) = long.map_or((input, output), |long| {
            (input * u128::from(long.input) / 100, output * u128::from(long.output) / 100)
        });
        u64::try_from((input + output).div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}

impl Prices {
    /// The price of what a provider of `kind` calls `model`.
    pub fn find(&self, kind: &str, model: &str) -> Option<&Price> {
        let exact = self.exact.iter().find(|(name, _)| name == model).map(|(_, price)| price);
        let prefix = || {
            let found = self.prefixes.iter().find(|(prefix, _)| model.starts_with(prefix.as_str()));
            found.map(|(_, price)| price)
        };
        exact.or_else(|| built_in(kind, model)).or_else(prefix)
    }

    /// Whether all models have a price whose name starts so.
    pub fn covers(&self, prefix: &str) -> bool {
        self.prefixes.iter().any(|(known, _)| prefix.starts_with(known.as_str()))
    }
}

fn built_in(kind: &str, model: &str) -> Option<&'static Price> {
    let rows = table::of_kind(kind);
    let row = |name: &str| {
        let index = rows.binary_search_by(|row| row.model.cmp(name)).ok()?;
        rows.get(index).map(|row| &row.price)
    };
    row(model).or_else(|| row(undated(model)?))
}

/// A name without `-latest`, `-2026-11-22`, `-20261122` or `-11-2026`; `None` where it has nothing of that kind.
fn undated(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    ["-0000-00-00", "-00000000", "-00-0000"].into_iter().find_map(|shape| {
        let start = model.len().checked_sub(shape.len())?;
        let (name, suffix) = model.split_at_checked(start)?;
        let fits = |(have, want): (u8, u8)| {
            if want == b'0' { have.is_ascii_digit() } else { have == want }
        };
        (!name.is_empty() && suffix.bytes().zip(shape.bytes()).all(fits)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, completion: u64, cached: u64, reasoning: u64, cache_write: u64) -> Usage {
        Usage { prompt, completion, cached, reasoning, cache_write }
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let price = Price {
            input: 3_000_000,
            cached_input: 300_000,
            cache_write: 3_750_000,
            output: 15_000_000,
            reasoning: 20_000_000,
            long: Some(Long { above: 200_000, input: 200, output: 150 }),
        };
        for (usage, nanodollars) in [
            (usage(0, 0, 0, 0, 0), 0),
            (usage(1_000_000, 0, 0, 0, 0), 2 * 3_000_000_000),
            (usage(200_000, 0, 0, 0, 0), 600_000_000),
            (usage(1_000, 100, 600, 40, 300), 300_000 + 180_000 + 1_125_000 + 900_000 + 800_000),
            (usage(200_001, 1_000, 0, 0, 0), 1_200_006_000 + 22_500_000),
            // A part that is larger than its whole counts for what it is, and nothing is negative.
            (usage(10, 0, 20, 0, 20), 6_000 + 75_000),
            (usage(u64::MAX, u64::MAX, 0, 0, 0), u64::MAX),
        ] {
            assert_eq!(price.of(&usage), nanodollars, "{usage:?}");
        }
        let cheapest = Price { input: 1, ..price };
        assert_eq!(cheapest.of(&usage(1, 0, 0, 0, 0)), 1, "never nothing for something");
    }

    #[test]
    fn the_table_is_found_by_kind_and_name() {
        let input = |kind, model| built_in(kind, model).map(|price| price.input);
        for (kind, model, expected) in [
            ("openai", "gpt-4o", Some(2_500_000)),
            ("openai", "gpt-4o-2024-08-06", Some(2_500_000)),
            ("openai", "gpt-4o-2024-05-13", Some(5_000_000)),
            ("openai", "gpt-4o-mini-2024-07-18", Some(150_000)),
            ("openai", "gpt-5-chat-latest", Some(1_250_000)),
            ("openai", "gpt-4o-x", None),
            ("openai", "gpt", None),
            ("openai", "", None),
            ("azure", "gpt-4o", None),
            ("anthropic", "claude-sonnet-4-5-20250929", Some(3_000_000)),
            ("anthropic", "claude-3-5-haiku-latest", Some(800_000)),
            ("cohere", "command-r-08-2024", Some(150_000)),
            ("gemini", "gemini-2.5-pro", Some(1_250_000)),
            ("vertex", "gemini-2.5-pro", Some(1_250_000)),
            ("nobody", "gpt-4o", None),
        ] {
            assert_eq!(input(kind, model), expected, "{kind} {model}");
        }
        let cached = built_in("openai", "gpt-4o").unwrap();
        assert_eq!(
            (cached.cached_input, cached.cache_write, cached.output),
            (1_250_000, 2_500_000, 10_000_000)
        );
        assert_eq!(built_in("openai", "gpt-5.4").unwrap().long.unwrap().above, 272_000);
    }

    #[test]
    fn the_table_is_sorted_and_plausible() {
        for kind in crate::provider::names() {
            let rows = table::of_kind(kind);
            assert!(rows.is_sorted_by(|one, next| one.model < next.model), "{kind}");
            for row in rows {
                let Price { input, cached_input, cache_write, output, reasoning, long } = row.price;
                assert!(
                    input > 0 && cached_input <= input && cache_write >= input,
                    "{}",
                    row.model
                );
                assert!(cache_write <= input * 2 && output == reasoning, "{}", row.model);
                assert!(output == 0 || output >= input, "{}", row.model);
                assert!(long.is_none_or(|long| long.input >= 100 && long.output >= 100));
            }
        }
        assert!(
            [
                "openai",
                "anthropic",
                "gemini",
                "mistral",
                "deepseek",
                "xai",
                "groq",
                "moonshot",
                "perplexity",
                "cerebras"
            ]
            .iter()
            .all(|kind| crate::provider::find(kind).is_some() && !table::of_kind(kind).is_empty())
        );
    }

    #[test]
    fn the_configuration_comes_first_and_its_prefixes_last() {
        let price = |input| Price {
            input,
            cached_input: 1,
            cache_write: 1,
            output: 1,
            reasoning: 1,
            long: None,
        };
        let prices = Prices {
            exact: vec![("gpt-4o".to_owned(), price(1))],
            prefixes: vec![("gpt-4".to_owned(), price(2)), ("gpt".to_owned(), price(3))],
        };
        let input = |model| prices.find("openai", model).map(|price| price.input);
        assert_eq!(input("gpt-4o"), Some(1));
        assert_eq!(input("gpt-4o-mini"), Some(150_000), "a price of its own in the table");
        assert_eq!(input("gpt-4-x"), Some(2));
        assert_eq!(input("gpt-x"), Some(3));
        assert_eq!(input("x"), None);
        assert!(prices.covers("gpt-5") && prices.covers("gpt") && !prices.covers("gp"));
    }
}
