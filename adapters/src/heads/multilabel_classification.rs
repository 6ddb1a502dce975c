//! Heads for several labels: AdapterHub's `MultiLabelClassificationHead`. Its layers and fields are
//! those of a classification; what it learns is whether each label is there by itself.
use super::{Classification, HeadConfig, HeadLayers, HeadPlace, HeadType};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};

const NAME: &str = "multilabel_classification";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |fields, _| Ok(Box::new(methods::read::<MultiLabelClassification>(fields)?)),
    built_in: &[],
};

/// Any number of labels for each sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MultiLabelClassification(pub Classification);

impl HeadConfig for MultiLabelClassification {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        self.0.fields()
    }
    fn check(&self) -> Result<()> {
        self.0.check()
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.0.build(place, from)
    }
    fn labels(&self) -> Result<Vec<String>> {
        self.0.labels()
    }
    fn use_pooler(&self) -> bool {
        self.0.use_pooler
    }
}
