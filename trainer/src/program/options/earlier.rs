//! What keeps earlier tasks from being forgotten: what of it goes together.
use super::checks::refused;
use super::table::Options;
use engraft::{Error, Result};

impl Options {
    /// Checks elastic weight consolidation and replay: for tasks that one adapter learns one after the
    /// other, or for a run that names the directories of earlier ones.
    pub(super) fn check_earlier(&self) -> Result<()> {
        let several = self.tasks.is_some() && self.shared == Some(true);
        let ways = [
            (["ewc", "ewc-from"], self.ewc.is_some(), self.ewc_from.is_some()),
            (["replay", "replay-from"], self.replay.is_some(), self.replay_from.is_some()),
        ];
        for ([how, from], is_asked, is_from) in ways {
            match (is_asked, is_from) {
                (false, true) => return Err(Error::Needs { option: from, needs: how }),
                (true, false) if self.tasks.is_none() => {
                    return Err(Error::Needs { option: how, needs: "tasks" });
                }
                (true, false) if !several => return Err(Error::Needs { option: how, needs: "shared" }),
                (_, true) => self.check_alone(from)?,
                _ => {}
            }
        }
        if self.replay.is_some() && self.memory_budget.is_some() {
            // what a step holds depends on what is drawn
            return Err(Error::Exclusive { one: "memory-budget", other: "replay" });
        }
        let needs = [
            ("fisher-examples", self.fisher_examples.is_some(), "ewc", self.ewc.is_some()),
            ("replay-share", self.replay_share.is_some(), "replay", self.replay.is_some()),
        ];
        if let Some((option, _, needs, _)) = needs.into_iter().find(|(_, given, _, there)| *given && !there) {
            return Err(Error::Needs { option, needs });
        }
        if let Some(strength) = self.ewc.filter(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(refused("ewc", strength, "it is a number from 0"));
        }
        if let Some(share) = self.replay_share.filter(|x| !(0.0..1.0).contains(x)) {
            return Err(refused("replay-share", share, "it is from 0 to below 1"));
        }
        if self.fisher_examples == Some(0) {
            return Err(refused("fisher-examples", 0, "it is at least 1"));
        }
        Ok(())
    }
    /// Refuses several runs at once, and what there is no end of, beside an option.
    fn check_alone(&self, one: &'static str) -> Result<()> {
        let others = [
            ("variant", self.variant.is_some()),
            ("tasks", self.tasks.is_some()),
            ("adapter-column", self.adapter_column.is_some()),
        ];
        match others.into_iter().find(|(_, given)| *given) {
            Some((other, _)) => Err(Error::Exclusive { one, other }),
            None => Ok(()),
        }
    }
}
