//! What is counted, as it is told to whoever asks.

use std::fmt;
use std::sync::Arc;

/// One number, or the few that describe a distribution, under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: &'static str,
    /// A label's name and value, to tell samples of one name apart.
    pub label: Option<(&'static str, String)>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Only grows.
    Counter(u64),
    Gauge(f64),
    /// A gauge of which `mntr` always shows the fraction.
    Fraction(f64),
    Summary(Summary),
}

/// A distribution, in the unit of its name; times are in milliseconds, as in ZooKeeper.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    /// Pairs of a share and what that share of all stays within; may be empty.
    pub quantiles: Vec<(f64, f64)>,
}

impl Sample {
    pub fn counter(name: &'static str, count: u64) -> Self {
        Self::new(name, Value::Counter(count))
    }

    pub fn gauge(name: &'static str, value: f64) -> Self {
        Self::new(name, Value::Gauge(value))
    }

    pub fn fraction(name: &'static str, value: f64) -> Self {
        Self::new(name, Value::Fraction(value))
    }

    pub fn summary(name: &'static str, summary: Summary) -> Self {
        Self::new(name, Value::Summary(summary))
    }

    fn new(name: &'static str, value: Value) -> Self {
        Self {
            name,
            label: None,
            value,
        }
    }

    #[must_use]
    pub fn labelled(mut self, name: &'static str, value: impl ToString) -> Self {
        self.label = Some((name, value.to_string()));
        self
    }
}

impl Summary {
    pub fn average(&self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.sum / count as f64,
        }
    }
}

type Gather = dyn Fn() -> Vec<Sample> + Send + Sync;

/// What the node behind the link counts, for `mntr` and the metrics page. Must not wait.
#[derive(Clone)]
pub struct NodeSamples(Arc<Gather>);

impl NodeSamples {
    pub fn new(gather: impl Fn() -> Vec<Sample> + Send + Sync + 'static) -> Self {
        Self(Arc::new(gather))
    }

    pub(crate) fn gather(&self) -> Vec<Sample> {
        (self.0)()
    }
}

impl Default for NodeSamples {
    fn default() -> Self {
        Self::new(Vec::new)
    }
}

impl fmt::Debug for NodeSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSamples")
    }
}
