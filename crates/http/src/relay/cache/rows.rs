//! The directive rows of the cache, under each protocol's prefix.

/// Rows for how answers are kept.
#[macro_export]
macro_rules! relay_cache_rows {
    ($prefix:literal, $settings:ty) => {
        $crate::relay_cache_rows!($prefix, $settings, "GET HEAD")
    };
    ($prefix:literal, $settings:ty, $methods:literal) => {{
        use conf::{Arity, Contexts};
        use $crate::rows::{flag, number, offset, row, time, value};
        const ALL: Contexts = Contexts::HTTP_ALL;
        let rows: [$crate::rows::Row<$settings>; 18] = [
            row(
                concat!($prefix, "_cache_path"),
                Contexts::HTTP,
                Arity::MORE2,
                "",
                "Declares a zone that answers are kept in.",
                |_, cx, d| $crate::relay::cache::path::set(cx, d),
            )
            .many(),
            row(
                concat!($prefix, "_cache"),
                ALL,
                Arity::ONE,
                "off",
                "The zone that answers are kept in.",
                |s, cx, d| s.relay.cache_mut().set_zone(cx, d),
            ),
            row(
                concat!($prefix, "_cache_key"),
                ALL,
                Arity::ONE,
                "",
                "What tells one answer from another.",
                |s, cx, d| s.relay.cache_mut().set_key(cx, d),
            ),
            value::<$settings>(
                concat!($prefix, "_cache_valid"),
                ALL,
                Arity::MORE1,
                "",
                "How long answers are fresh that do not say so.",
                |s, d| s.relay.cache_mut().add_valid(d),
            )
            .many(),
            number(
                concat!($prefix, "_cache_min_uses"),
                ALL,
                "1",
                "Requests before an answer is kept.",
                |s, v| s.relay.cache_mut().min_uses = v,
            ),
            row(
                concat!($prefix, "_cache_methods"),
                ALL,
                Arity::MORE1,
                $methods,
                "Methods whose answers are kept.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().set_methods(cx, d),
            )
            .many(),
            row(
                concat!($prefix, "_cache_bypass"),
                ALL,
                Arity::MORE1,
                "",
                "Conditions under which the upstream is asked all the same.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().add_bypass(cx, d),
            )
            .many(),
            row(
                concat!($prefix, "_no_cache"),
                ALL,
                Arity::MORE1,
                "",
                "Conditions under which an answer is not kept.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().add_no_cache(cx, d),
            )
            .many(),
            row(
                concat!($prefix, "_cache_purge"),
                ALL,
                Arity::MORE1,
                "",
                "Requests that take answers out of the cache: `ZONE KEY [soft]` or `ZONE tag=TAGS [soft]` in a location \
                 of its own, conditions or a method where answers are kept; a `*` ends a key that is a prefix.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().set_purge(cx, d),
            ),
            value(
                concat!($prefix, "_cache_purge_mode"),
                ALL,
                Arity::ONE,
                "hard",
                "What is purged is gone (`hard`), or stale (`soft`).",
                |s: &mut $settings, d| s.relay.cache_mut().set_purge_mode(d),
            ),
            row(
                concat!($prefix, "_cache_tag"),
                ALL,
                Arity::MORE1,
                "",
                "Words to purge answers by, parted by spaces or commas, such as `$upstream_http_cache_tag`.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().add_tags(cx, d),
            )
            .many(),
            row(
                concat!($prefix, "_cache_use_stale"),
                ALL,
                Arity::MORE1,
                "off",
                "When a stale answer is better than none.",
                |s: &mut $settings, cx, d| s.relay.cache_mut().set_use_stale(cx, d),
            )
            .many(),
            flag(
                concat!($prefix, "_cache_lock"),
                ALL,
                "off",
                "One request fetches what many miss.",
                |s, v| s.relay.cache_mut().lock = v,
            ),
            time(
                concat!($prefix, "_cache_lock_timeout"),
                ALL,
                "5s",
                "How long others wait for it.",
                |s, v| s.relay.cache_mut().lock_timeout = v,
            ),
            time(
                concat!($prefix, "_cache_lock_age"),
                ALL,
                "5s",
                "When another request fetches it too.",
                |s, v| s.relay.cache_mut().lock_age = v,
            ),
            flag(
                concat!($prefix, "_cache_revalidate"),
                ALL,
                "off",
                "Asks whether a stale answer is still good.",
                |s, v| s.relay.cache_mut().revalidate = v,
            ),
            flag(
                concat!($prefix, "_cache_background_update"),
                ALL,
                "off",
                "Fetches a stale answer while it is served.",
                |s, v| s.relay.cache_mut().background_update = v,
            ),
            offset(
                concat!($prefix, "_cache_max_range_offset"),
                ALL,
                "",
                "Ranges behind it go to the upstream.",
                |s, v| s.relay.cache_mut().max_range_offset = Some(v),
            ),
        ];
        rows
    }};
}

/// Rows for how answers are saved as files.
#[macro_export]
macro_rules! relay_store_rows {
    ($prefix:literal, $settings:ty) => {{
        use conf::{Arity, Contexts};
        use $crate::rows::{row, value};
        const ALL: Contexts = Contexts::HTTP_ALL;
        let rows: [$crate::rows::Row<$settings>; 2] = [
            row(concat!($prefix, "_store"), ALL, Arity::ONE, "off", "Saves answers as files.", |s, cx, d| {
                s.relay.cache_mut().set_store(cx, d)
            }),
            value(
                concat!($prefix, "_store_access"),
                ALL,
                Arity::TAKE123,
                "user:rw",
                "Permissions of files that are saved.",
                |s: &mut $settings, d| s.relay.cache_mut().set_store_access(d),
            ),
        ];
        rows
    }};
}
