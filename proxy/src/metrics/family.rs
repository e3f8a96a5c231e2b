//! Metric families in the form that the exposition encoder takes.

use prometheus::proto;

use super::duration::bounds;

/// Label names and values of one series.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// One named metric being filled with its series.
pub(super) struct Family {
    inner: proto::MetricFamily,
    series: Vec<proto::Metric>,
}

impl Family {
    pub(super) fn counter(name: &str, help: &str) -> Family {
        Family::new(name, help, proto::MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Family {
        Family::new(name, help, proto::MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Family {
        Family::new(name, help, proto::MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: proto::MetricType) -> Family {
        let mut inner = proto::MetricFamily::default();
        inner.set_name(name.to_owned());
        inner.set_help(help.to_owned());
        inner.set_field_type(kind);
        Family {
            inner,
            series: Vec::new(),
        }
    }

    /// Add one series of a counter or gauge.
    pub(super) fn push(&mut self, labels: Labels<'_>, value: f64) {
        let mut series = labelled(labels);
        if self.inner.get_field_type() == proto::MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            series.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            series.set_gauge(gauge);
        }
        self.series.push(series);
    }

    /// Add one series of a histogram: `counts` per bucket, not yet cumulated,
    /// of which the last has no upper bound.
    pub(super) fn push_histogram(&mut self, labels: Labels<'_>, counts: &[u64], seconds: f64) {
        let mut below = 0;
        let buckets = bounds()
            .zip(counts)
            .map(|(bound, count)| {
                below += count;
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(below);
                bucket
            })
            .collect();
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(seconds);
        let mut series = labelled(labels);
        series.set_histogram(histogram);
        self.series.push(series);
    }

    /// The finished family; `None` when it has no series, which the encoder
    /// would refuse.
    pub(super) fn finish(mut self) -> Option<proto::MetricFamily> {
        if self.series.is_empty() {
            return None;
        }
        self.inner.set_metric(self.series);
        Some(self.inner)
    }
}

fn labelled(labels: Labels<'_>) -> proto::Metric {
    let pairs = labels
        .iter()
        .map(|&(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect();
    proto::Metric::from_label(pairs)
}
