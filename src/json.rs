//! JSON as Go reads it, where `serde` would read it otherwise: null is the value with nothing in it, and a list is never
//! taken for an object whose fields come in order.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A field that is an object. Null counts as an object with no fields.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    optional(deserializer).map(Option::unwrap_or_default)
}

/// A field that has to be an object.
pub(crate) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// A field that is an object, or null, or not there.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// A field that is a list of objects. Null is no list, and a null item is an object with no fields.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let items: Option<Vec<Option<Object<T>>>> = Deserialize::deserialize(deserializer)?;
    Ok(items.map(|items| items.into_iter().map(|item| item.map(|Object(value)| value).unwrap_or_default()).collect()))
}

/// A field that is a list of values that are no objects. Null is no list, and a null item is the empty value.
pub(crate) fn values<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let items: Option<Vec<Option<T>>> = Deserialize::deserialize(deserializer)?;
    Ok(items.map(|items| items.into_iter().map(Option::unwrap_or_default).collect()))
}

/// A struct that is read from an object and from nothing else.
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

#[cfg(test)]
mod tests {
    use super::*;

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
