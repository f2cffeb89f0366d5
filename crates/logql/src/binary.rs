//! Binary operators between two vectors, and between a vector and a number.

use hashbrown::HashMap;
use pilothouse_model::{Labels, LabelsBuilder};
use pilothouse_query::vectors::{Grouping as Groupings, Groups};
use rustc_hash::FxBuildHasher;

use crate::LogqlError;
use crate::columns::{ABSENT, Column, is_absent, with_values};
use crate::syntax::{BinaryOp, Cardinality, VectorMatching};

/// A vector and a number. `number_left`: the number stands on the left. A comparison without
/// `bool` keeps the vector's value where it holds.
pub(crate) fn with_number(
    op: BinaryOp,
    return_bool: bool,
    mut columns: Vec<Column>,
    number: f64,
    number_left: bool,
) -> Vec<Column> {
    for value in columns.iter_mut().flat_map(|column| column.values.iter_mut()) {
        if is_absent(*value) {
            continue;
        }
        let (left, right) = if number_left { (number, *value) } else { (*value, number) };
        *value = match op.comparison() {
            Some(compare) if !return_bool => {
                if compare.holds(left, right) {
                    *value
                } else {
                    ABSENT
                }
            }
            _ => op.of(left, right),
        };
    }
    columns
}

/// Results by their labels.
struct Output {
    steps: usize,
    index: HashMap<Labels, usize, FxBuildHasher>,
    columns: Vec<Column>,
}

impl Output {
    fn new(steps: usize) -> Self {
        Self { steps, index: HashMap::default(), columns: Vec::new() }
    }

    fn column(&mut self, labels: Labels) -> usize {
        let next = self.columns.len();
        let at = *self.index.entry(labels.clone()).or_insert(next);
        if at == next {
            self.columns.push(Column { labels, values: vec![ABSENT; self.steps] });
        }
        at
    }

    fn finish(mut self) -> Vec<Column> {
        self.columns.retain(|column| !column.is_empty());
        self.columns
    }
}

/// Two vectors. At each step the series of both sides are paired by the labels that match.
pub(crate) fn vectors(
    op: BinaryOp,
    matching: &VectorMatching,
    left: &[Column],
    right: &[Column],
    steps: usize,
) -> Result<Vec<Column>, LogqlError> {
    let mut groups = Groups::new(Groupings::new(matching.labels.clone(), !matching.on));
    let left_groups: Vec<usize> = left.iter().map(|c| groups.number(&c.labels)).collect();
    let right_groups: Vec<usize> = right.iter().map(|c| groups.number(&c.labels)).collect();
    if op.is_set() {
        return Ok(set(op, left, right, &left_groups, &right_groups, groups.len(), steps));
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, many_groups, one, one_groups) = if swapped {
        (right, &right_groups, left, &left_groups)
    } else {
        (left, &left_groups, right, &right_groups)
    };
    let mut pairing = Pairing {
        op,
        matching,
        swapped,
        partner: vec![None; groups.len()],
        taken: vec![false; groups.len()],
        results: HashMap::default(),
        output: Output::new(steps),
    };
    for step in 0..steps {
        pairing.step(step, many, many_groups, one, one_groups)?;
    }
    Ok(pairing.output.finish())
}

struct Pairing<'m> {
    op: BinaryOp,
    matching: &'m VectorMatching,
    swapped: bool,
    /// For each group the series of the "one" side that is there at this step.
    partner: Vec<Option<usize>>,
    taken: Vec<bool>,
    results: HashMap<(usize, usize), usize, FxBuildHasher>,
    output: Output,
}

impl Pairing<'_> {
    fn step(
        &mut self,
        step: usize,
        many: &[Column],
        many_groups: &[usize],
        one: &[Column],
        one_groups: &[usize],
    ) -> Result<(), LogqlError> {
        self.partner.fill(None);
        self.taken.fill(false);
        for (i, column) in one.iter().enumerate() {
            if is_absent(column.values[step]) {
                continue;
            }
            if self.partner[one_groups[i]].replace(i).is_some() {
                let side = if self.swapped { "left" } else { "right" };
                return Err(LogqlError::Matching(format!(
                    "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be unique on one side"
                )));
            }
        }
        let grouped = self.matching.cardinality != Cardinality::OneToOne;
        for (i, column) in many.iter().enumerate() {
            let value = column.values[step];
            let Some(j) = self.partner[many_groups[i]].filter(|_| !is_absent(value)) else { continue };
            if !grouped && std::mem::replace(&mut self.taken[many_groups[i]], true) {
                return Err(LogqlError::Matching(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        .to_owned(),
                ));
            }
            let (output, matching) = (&mut self.output, self.matching);
            let at = *self
                .results
                .entry((i, j))
                .or_insert_with(|| output.column(result_labels(&column.labels, &one[j].labels, matching)));
            let slot = &mut self.output.columns[at].values[step];
            if grouped && !is_absent(*slot) {
                return Err(LogqlError::Matching(
                    "multiple matches for labels: grouping labels must ensure unique matches".to_owned(),
                ));
            }
            let other = one[j].values[step];
            let (l, r) = if self.swapped { (other, value) } else { (value, other) };
            *slot = match self.op.comparison() {
                Some(compare) if !matching.return_bool => {
                    if compare.holds(l, r) {
                        l
                    } else {
                        ABSENT
                    }
                }
                _ => self.op.of(l, r),
            };
        }
        Ok(())
    }
}

fn result_labels(many: &Labels, one: &Labels, matching: &VectorMatching) -> Labels {
    let mut labels = match (matching.cardinality, matching.on) {
        (Cardinality::OneToOne, true) => many.filter(|name| matching.labels.iter().any(|l| l == name)),
        (Cardinality::OneToOne, false) => many.filter(|name| !matching.labels.iter().any(|l| l == name)),
        _ => many.clone(),
    };
    if !matching.include.is_empty() {
        let mut builder = LabelsBuilder::from(&labels);
        for name in &matching.include {
            builder.set(name, one.value(name));
        }
        labels = builder.build();
    }
    with_values(&labels)
}

fn set(
    op: BinaryOp,
    left: &[Column],
    right: &[Column],
    left_groups: &[usize],
    right_groups: &[usize],
    groups: usize,
    steps: usize,
) -> Vec<Column> {
    let mut output = Output::new(steps);
    let left_at: Vec<usize> = left.iter().map(|c| output.column(c.labels.clone())).collect();
    let right_at: Vec<usize> = match op {
        BinaryOp::Or => right.iter().map(|c| output.column(c.labels.clone())).collect(),
        _ => Vec::new(),
    };
    let mut present = vec![false; groups];
    for step in 0..steps {
        present.fill(false);
        let (marking, marks) = if op == BinaryOp::Or { (left, left_groups) } else { (right, right_groups) };
        for (column, group) in marking.iter().zip(marks) {
            present[*group] |= !is_absent(column.values[step]);
        }
        for (i, column) in left.iter().enumerate() {
            let keeps = match op {
                BinaryOp::And => present[left_groups[i]],
                BinaryOp::Unless => !present[left_groups[i]],
                _ => true,
            };
            if keeps && !is_absent(column.values[step]) {
                output.columns[left_at[i]].values[step] = column.values[step];
            }
        }
        for (i, at) in right_at.iter().enumerate() {
            let value = right[i].values[step];
            if !present[right_groups[i]] && !is_absent(value) {
                output.columns[*at].values[step] = value;
            }
        }
    }
    output.finish()
}
