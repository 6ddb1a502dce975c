//! Learning from a teacher: what goes together, and values in range.
use super::checks::refused;
use super::table::{Options, Settings};
use super::values::check;
use engraft::tasks::Soft;
use engraft::{Error, Result};

impl Options {
    /// Checks what learning from a teacher goes with: one run, on examples in memory.
    pub(super) fn check_teaching(&self) -> Result<()> {
        let shaping = [
            ("teacher-model", self.teacher_model.is_some()),
            ("distill-alpha", self.distill_alpha.is_some()),
            ("distill-temperature", self.distill_temperature.is_some()),
            ("distill-hidden", self.distill_hidden.is_some()),
            ("distill-hidden-weight", self.distill_hidden_weight.is_some()),
        ];
        let Some(teachers) = &self.teacher else {
            return match shaping.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(Error::Needs { option, needs: "teacher" }),
                None => Ok(()),
            };
        };
        if teachers.is_empty() {
            return Err(refused("teacher", "empty", "it names some"));
        }
        if self.train.is_none() && self.tasks.is_none() {
            return Err(Error::Needs { option: "teacher", needs: "train" });
        }
        let others = [
            ("tasks", self.tasks.is_some()),
            ("adapter-column", self.adapter_column.is_some()),
            ("stream", self.stream == Some(true)),
        ];
        if let Some((other, _)) = others.into_iter().find(|(_, given)| *given) {
            return Err(Error::Exclusive { one: "teacher", other });
        }
        if let Some(n) =
            self.teacher_model.as_ref().map(Vec::len).filter(|n| ![1, teachers.len()].contains(n))
        {
            let why = format!("there are {} teachers: name one model, or one for each", teachers.len());
            return Err(refused("teacher-model", format!("{n} models"), why));
        }
        if self.distill_hidden.is_some() && teachers.len() > 1 {
            return Err(refused("distill-hidden", "given", "hidden states are learned from one teacher"));
        }
        match (&self.distill_hidden, self.distill_hidden_weight) {
            (None, Some(_)) => Err(Error::Needs { option: "distill-hidden-weight", needs: "distill-hidden" }),
            _ => Ok(()),
        }
    }
}

impl Settings {
    /// How soft a teacher's outputs are, and how much they count.
    pub fn soft(&self) -> Soft {
        let usual = Soft::default();
        Soft {
            alpha: self.distill_alpha.unwrap_or(usual.alpha),
            temperature: self.distill_temperature.unwrap_or(usual.temperature),
        }
    }
    /// What hidden states count.
    pub fn hidden_weight(&self) -> f64 {
        self.distill_hidden_weight.unwrap_or(100.0)
    }
    pub(super) fn check_soft(&self) -> Result<()> {
        let (Soft { alpha, temperature }, weight) = (self.soft(), self.hidden_weight());
        check("distill-alpha", alpha, (0.0..=1.0).contains(&alpha), "it is a share from 0 to 1")?;
        let (above, finite) = ("it is a number above 0", temperature.is_finite() && weight.is_finite());
        check("distill-temperature", temperature, temperature > 0.0 && temperature.is_finite(), above)?;
        check("distill-hidden-weight", weight, weight > 0.0 && finite, above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_teachers_is_said_again() {
        let text = "train = 'a.tsv'\nteacher = ['x', 'y']\nteacher-model = 'm'\ndistill-alpha = 0.9\n";
        let settings = Options::parse("run.toml", text).unwrap().resolve().unwrap();
        assert_eq!(settings.soft(), Soft { alpha: 0.9, temperature: 2.0 });
        let again = Options::parse("run.toml", &settings.to_toml()).unwrap().resolve().unwrap();
        assert_eq!((&again, again.teacher.as_ref().map(Vec::len)), (&settings, Some(2)));
        let one = "train = 'a.tsv'\nteacher = 'x'\ndistill-hidden = '1,3:5'\ndistill-hidden-weight = 7";
        let settings = Options::parse("run.toml", one).unwrap().resolve().unwrap();
        assert!((settings.hidden_weight() - 7.0).abs() < f64::EPSILON);
        assert_eq!(settings.distill_hidden.map(|pairs| pairs.to_string()), Some("1,3:5".into()));
        assert!(Options::parse("run.toml", "distill-hidden = '3,1'").is_err());
    }
}
