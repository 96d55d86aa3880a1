//! JSON as Go parses it, where `serde` differs: null is the empty value, and a list is never parsed as an object with
//! its fields in order. Also objects of which some fields are kept as text and parsed later.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Parses a field that is an object. Null is an object without fields.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    optional(deserializer).map(Option::unwrap_or_default)
}

/// Parses a field that has to be an object.
pub(crate) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// Parses a field that is an object, null or missing.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// Parses a field that is a list of objects. Null is None, and a null item is an object without fields.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let items: Option<Vec<Option<Object<T>>>> = Deserialize::deserialize(deserializer)?;
    Ok(items.map(|items| items.into_iter().map(|item| item.map(|Object(value)| value).unwrap_or_default()).collect()))
}

/// Parses a field that is a list of values other than objects. Null is None, and a null item is the empty value.
pub(crate) fn values<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let items: Option<Vec<Option<T>>> = Deserialize::deserialize(deserializer)?;
    Ok(items.map(|items| items.into_iter().map(Option::unwrap_or_default).collect()))
}

/// A struct that is parsed only from an object.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// The key of an object. It is borrowed if it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A value of which only the presence matters. A parser that reports unknown fields reports none below it. It would
/// report an `IgnoredAny` as an unknown field.
#[derive(Debug, Default)]
pub(crate) struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unread, A::Error> {
                while map.next_entry::<Key<'_>, Unread>()?.is_some() {}
                Ok(Unread)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unread, A::Error> {
                while items.next_element::<Unread>()?.is_some() {}
                Ok(Unread)
            }

            fn visit_unit<E>(self) -> Result<Unread, E> {
                Ok(Unread)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Unread, E> {
                Ok(Unread)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Unread, E> {
                Ok(Unread)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Unread, E> {
                Ok(Unread)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Unread, E> {
                Ok(Unread)
            }

            fn visit_str<E>(self, _: &str) -> Result<Unread, E> {
                Ok(Unread)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Defines an object that keeps some fields as they are written and skips the others. It also keeps the first key that
/// is in neither of the two lists. A value that is not an object parses without an error: it has no fields, and
/// `is_object` is false, so the code that needs the fields has to reject it.
macro_rules! parts {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident passing [$($passed:literal),*] {
            $($(#[$about:meta])* $field:ident: $key:literal => $type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default)]
        $visibility struct $name<'a> {
            /// True if the value is an object.
            pub is_object: bool,
            /// The first key that is neither a field below nor in the list of skipped keys.
            pub other: Option<&'a str>,
            $($(#[$about])* pub $field: Option<$type>,)+
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Parts<'a>(std::marker::PhantomData<&'a ()>);

                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Parts<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("JSON")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut parts = $name { is_object: true, ..$name::default() };
                        while let Some($crate::json::Key(key)) = map.next_key()? {
                            match &*key {
                                $($key => parts.$field = map.next_value()?,)+
                                $($passed => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                })*
                                _ => {
                                    if let (None, std::borrow::Cow::Borrowed(other)) = (parts.other, key) {
                                        parts.other = Some(other);
                                    }
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(parts)
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                        while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                        Ok($name::default())
                    }

                    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }
                }
                deserializer.deserialize_any(Parts(std::marker::PhantomData))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    parts! {
        /// For a test.
        struct Two passing ["x"] { a: "a" => &'a serde_json::value::RawValue, b: "b" => &'a serde_json::value::RawValue, }
    }

    #[test]
    fn parts_are_kept_as_they_are_written() {
        let two: Two<'_> = serde_json::from_str(r#"{"x": [1, {}], "\u0061": {"k":  1}, "b": null}"#).unwrap();
        assert_eq!(two.a.map(serde_json::value::RawValue::get), Some(r#"{"k":  1}"#));
        assert!(two.b.is_none() && two.is_object);
        assert_eq!(two.other, None);
        let two: Two<'_> = serde_json::from_str(r#"{"x": 1, "y": 2, "z": 3}"#).unwrap();
        assert_eq!(two.other, Some("y"));
        for json in ["[1, [2]]", "5", "-5", "1.5", "\"a\"", "true"] {
            assert!(!serde_json::from_str::<Two<'_>>(json).unwrap().is_object, "{json}");
        }
        assert!(serde_json::from_str::<Two<'_>>("{").is_err());
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        meta: Inner,
        #[serde(deserialize_with = "optional")]
        spec: Option<Inner>,
        #[serde(deserialize_with = "objects")]
        items: Option<Vec<Inner>>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Inner {
        name: String,
    }

    fn read(json: &str) -> Result<Outer, String> {
        serde_json::from_str::<Object<Outer>>(json).map(|Object(outer)| outer).map_err(|error| error.to_string())
    }

    #[test]
    fn null_is_the_value_with_nothing_in_it() {
        let outer = read(r#"{"meta": null, "spec": null, "items": [null, {"name": "a"}]}"#).unwrap();
        assert_eq!((outer.meta, outer.spec), (Inner::default(), None));
        assert_eq!(outer.items.unwrap(), [Inner::default(), Inner { name: "a".into() }]);
    }

    #[test]
    fn a_list_is_no_object() {
        for json in ["[]", r#"{"meta": []}"#, r#"{"spec": ["a"]}"#, r#"{"items": [["a"]]}"#] {
            let fault = read(json).unwrap_err();
            assert!(fault.contains("invalid type: sequence, expected an object"), "{json}: {fault}");
        }
    }
}
