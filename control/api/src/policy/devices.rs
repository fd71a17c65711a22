//! The expressions that select devices: what they may know of one, and how they are compiled and asked.
//!
//! An expression sees `device`: its `driver`, and its `attributes` and `capacity`, each by domain and then by name. What
//! stands in a slice without a domain has the driver's. A domain that a device has nothing of is an empty map, so that
//! `"x" in device.attributes["d"]` and `device.attributes["d"].?x` ask without failing.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use coracle_cel::{Budget, EvalError, Kind, Names, Object, Program, Val};

use super::library::{self, LIBRARIES};
use crate::quantity::Quantity;

/// What one evaluation may cost, as in Kubernetes.
pub const SELECTOR_LIMIT: u64 = 1_000_000;
/// The longest expression, in bytes, as in Kubernetes.
pub const EXPRESSION_LIMIT_BYTES: usize = 10 * 1024;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let by_domain = |value: Kind| Kind::Map(Arc::new(Kind::Map(Arc::new(value))));
    let fields = [
        ("driver", Kind::Text),
        ("allowMultipleAllocations", Kind::Bool),
        ("attributes", by_domain(Kind::Dyn)),
        ("capacity", by_domain(Kind::Foreign(library::QUANTITY))),
    ];
    let device = Object {
        name: "kubernetes.DRADevice".to_owned(),
        fields: fields.map(|(name, kind)| (name.to_owned(), kind)).into(),
        open: false,
    };
    Names::new([("device", Kind::Object(Arc::new(device)))]).using(LIBRARIES)
});

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A version as semver.org has it.
    Version(String),
}

/// A device, as expressions see it.
#[derive(Debug, Clone)]
pub struct Device(Val<'static>);

impl Device {
    /// A device of a driver, with its attributes and capacities under their names in the slice.
    #[must_use]
    pub fn new<'n>(
        driver: &'n str,
        shared: bool,
        attributes: impl IntoIterator<Item = (&'n str, Attribute)>,
        capacity: impl IntoIterator<Item = (&'n str, Quantity)>,
    ) -> Self {
        let attributes = attributes.into_iter().map(|(name, value)| (name, value_of(value)));
        let capacity = capacity
            .into_iter()
            .map(|(name, amount)| (name, library::quantity(amount)));
        Self(Val::map([
            ("driver", Val::text(driver)),
            ("allowMultipleAllocations", Val::Bool(shared)),
            ("attributes", by_domain(driver, attributes)),
            ("capacity", by_domain(driver, capacity)),
        ]))
    }
}

fn value_of(attribute: Attribute) -> Val<'static> {
    match attribute {
        Attribute::Bool(truth) => Val::Bool(truth),
        Attribute::Int(number) => Val::Int(number),
        Attribute::Text(text) => Val::text(text),
        // The server lets no other in; whatever it is, nothing equals it.
        Attribute::Version(text) => Val::version(&text).unwrap_or(Val::Null),
    }
}

fn by_domain<'n>(driver: &'n str, values: impl Iterator<Item = (&'n str, Val<'static>)>) -> Val<'static> {
    let mut domains = BTreeMap::<&str, Vec<(&str, Val<'static>)>>::new();
    for (name, value) in values {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().push((name, value));
    }
    Val::lenient(domains.into_iter().map(|(domain, values)| (domain, Val::map(values))))
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Selector(Program);

impl Selector {
    /// Compiles an expression, which must say true or false.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Kubernetes.
    pub fn compile(expression: &str) -> Result<Self, String> {
        let program = Program::compile(expression, &NAMES).map_err(|error| format!("compilation failed: {error}"))?;
        match program.kind() {
            Kind::Bool | Kind::Dyn => Ok(Self(program)),
            other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
        }
    }

    /// Whether it selects the device. What that costs is taken from `budget_units`.
    ///
    /// # Errors
    /// Why it cannot be said, in the words of Kubernetes.
    pub fn selects(&self, device: &Device, budget_units: &mut u64) -> Result<bool, String> {
        let allowed = SELECTOR_LIMIT.min(*budget_units);
        let mut budget = Budget::new(allowed);
        let found = self.0.eval(&[("device", device.0.clone())], &mut budget);
        *budget_units = budget_units.saturating_sub(allowed.saturating_sub(budget.left()));
        match found {
            Ok(Val::Bool(truth)) => Ok(truth),
            Ok(other) => Err(format!(
                "CEL result of type {} could not be converted to bool",
                other.type_name()
            )),
            Err(EvalError::OutOfBudget) => {
                Err("CEL runtime error: operation cancelled: actual cost limit exceeded".to_owned())
            }
            Err(error) => Err(format!("CEL runtime error: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(expression: &str) -> Result<bool, String> {
        let attributes = [
            ("model", Attribute::Text("a100".to_owned())),
            ("numa", Attribute::Int(1)),
            ("healthy", Attribute::Bool(true)),
            ("driverVersion", Attribute::Version("1.10.0".to_owned())),
            ("other.example.com/rack", Attribute::Text("r7".to_owned())),
        ];
        let capacity = [("memory", Quantity::parse("40Gi").unwrap())];
        let device = Device::new("gpu.example.com", false, attributes, capacity);
        Selector::compile(expression)?.selects(&device, &mut 100_000)
    }

    #[test]
    fn an_expression_sees_the_device_by_domain() {
        for holds in [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'a100'",
            "device.attributes['gpu.example.com'].numa == 1 && device.attributes['gpu.example.com'].healthy",
            "device.attributes['other.example.com'].rack.startsWith('r')",
            "device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.9.0'))",
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) == 0",
            "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('10Gi'))",
            "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.numa < 2 && gpu.healthy)",
            "!('model' in device.attributes['nobody.example.com'])",
            "!('nobody.example.com' in device.attributes) && 'gpu.example.com' in device.attributes",
            "!has(device.attributes['nobody.example.com'].model)",
            "device.attributes['nobody.example.com'].?model.orValue('none') == 'none'",
            "device.attributes.exists(domain, domain.startsWith('other.'))",
            "!device.allowMultipleAllocations",
        ] {
            assert_eq!(asked(holds), Ok(true), "{holds}");
        }
        assert_eq!(asked("device.attributes['gpu.example.com'].model == 'h100'"), Ok(false));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let missing = asked("device.attributes['gpu.example.com'].size > 3").unwrap_err();
        assert_eq!(missing, "CEL runtime error: no such key: size");
        assert!(
            asked("device.nothing")
                .unwrap_err()
                .contains("undefined field 'nothing'")
        );
        assert!(asked("device.driver").unwrap_err().contains("must evaluate to bool"));
        assert!(asked("object.x").unwrap_err().contains("undeclared reference"));
        let dear = Selector::compile("[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, a > 0 && b > 0))").unwrap();
        let device = Device::new("d", false, [], []);
        let mut units = 50;
        assert!(dear.selects(&device, &mut units).is_err());
        assert_eq!(units, 0, "what was done is paid for");
    }
}
