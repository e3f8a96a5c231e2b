//! Tables that stand in the file for all pools and below a pool for it alone.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::config::read::At;

/// A table that pools override key by key.
pub trait Inherited: JsonSchema {
    /// What the schema calls it below a pool.
    const NAME: &'static str;
    /// What the schema says of it there.
    const DESCRIPTION: &'static str;
    /// The keys that are one for all pools.
    const FOR_ALL: &'static [&'static str];
}

/// The schema of such a table below a pool: without the keys that are for all,
/// and without defaults, which come from the general table.
pub struct InPool<T>(PhantomData<T>);

impl<T: Inherited> JsonSchema for InPool<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert("description".to_owned(), T::DESCRIPTION.into());
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for key in T::FOR_ALL {
                properties.remove(*key);
            }
            for property in properties.values_mut() {
                property.as_object_mut().map(|keys| keys.remove("default"));
            }
        }
        schema
    }
}

/// What a pool may take a setting from: its own table, then the general one.
#[derive(Debug)]
pub struct Layers<'a, T> {
    /// `[pools.NAME.TABLE]`.
    pub own: Option<&'a T>,
    /// `[TABLE]`.
    pub general: Option<&'a T>,
}

impl<T> Clone for Layers<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Layers<'_, T> {}

impl<'a, T> Layers<'a, T> {
    /// A table that takes nothing from another.
    pub fn alone(table: &'a T) -> Layers<'a, T> {
        Layers {
            own: Some(table),
            general: None,
        }
    }

    /// Where a setting is written that is in force.
    pub fn find<V: 'a>(self, setting: impl Fn(&'a T) -> &'a Option<At<V>>) -> Option<&'a At<V>> {
        let written = |table: Option<&'a T>| table.and_then(|table| setting(table).as_ref());
        written(self.own).or_else(|| written(self.general))
    }

    /// The setting that is in force.
    pub fn value<V: Copy + 'a>(
        self,
        default: V,
        setting: impl Fn(&'a T) -> &'a Option<At<V>>,
    ) -> V {
        self.find(setting).map_or(default, |at| at.value)
    }

    /// Whether there is a table at all.
    pub fn exist(self) -> bool {
        self.own.or(self.general).is_some()
    }
}
