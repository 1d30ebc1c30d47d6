//! The page that Prometheus reads, in its text format.
//! (Prometheus documentation, "Exposition formats".)

use std::fmt::Write;

use oxkeeper_proxy::{Sample, Summary, Value};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples of one name must follow each other.
pub(crate) fn text(samples: &[Sample]) -> String {
    let mut page = String::new();
    let mut before = "";
    for sample in samples {
        if sample.name != before {
            before = sample.name;
            let _ = writeln!(page, "# TYPE {} {}", sample.name, kind(&sample.value));
        }
        put(&mut page, sample);
    }
    page
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Counter(_) => "counter",
        Value::Gauge(_) | Value::Fraction(_) => "gauge",
        Value::Summary(_) => "summary",
    }
}

fn put(page: &mut String, sample: &Sample) {
    let name = sample.name;
    let labels = labels(sample, None);
    let _ = match &sample.value {
        Value::Counter(count) => writeln!(page, "{name}{labels} {count}"),
        Value::Gauge(value) | Value::Fraction(value) => writeln!(page, "{name}{labels} {value}"),
        Value::Summary(summary) => put_summary(page, sample, summary),
    };
}

fn put_summary(page: &mut String, sample: &Sample, summary: &Summary) -> std::fmt::Result {
    let name = sample.name;
    for (share, value) in &summary.quantiles {
        let value = if summary.count == 0 { f64::NAN } else { *value };
        let labels = labels(sample, Some(*share));
        writeln!(page, "{name}{labels} {value}")?;
    }
    let labels = labels(sample, None);
    writeln!(page, "{name}_sum{labels} {}", summary.sum)?;
    writeln!(page, "{name}_count{labels} {}", summary.count)
}

/// Names and values come from this program, so nothing is escaped.
fn labels(sample: &Sample, quantile: Option<f64>) -> String {
    let own = sample.label.as_ref();
    let own = own.map(|(name, value)| format!("{name}=\"{value}\""));
    let quantile = quantile.map(|share| format!("quantile=\"{share}\""));
    let all: Vec<String> = own.into_iter().chain(quantile).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_form() {
        let summary = Summary {
            count: 2,
            sum: 3.5,
            min: 1.0,
            max: 2.5,
            quantiles: vec![(0.5, 1.0), (0.999, 2.5)],
        };
        let samples = [
            Sample::gauge("g", 1.5),
            Sample::counter("c_total", 7).labelled("shard", 0),
            Sample::counter("c_total", 8).labelled("shard", 1),
            Sample::summary("s", summary),
        ];
        assert_eq!(
            text(&samples),
            "# TYPE g gauge\ng 1.5\n\
             # TYPE c_total counter\nc_total{shard=\"0\"} 7\nc_total{shard=\"1\"} 8\n\
             # TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.999\"} 2.5\ns_sum 3.5\ns_count 2\n"
        );
    }

    #[test]
    fn quantiles_of_nothing_are_no_number() {
        let summary = Summary {
            quantiles: vec![(0.5, 0.0)],
            ..Summary::default()
        };
        assert!(text(&[Sample::summary("s", summary)]).contains("s{quantile=\"0.5\"} NaN\n"));
    }
}
