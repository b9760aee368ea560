//! Brings a round's trouble about, and ends it again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use harness::wait::eventually;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::rounds::{Fault, Round, SCHEDULERS, What, Whom};
use crate::stand::{Leader, Scheduler, Stand, part};

/// A clock that is an hour off must be noticed within this time.
const NOTICED: Duration = Duration::from_secs(10);

impl Stand {
    /// Lets all of a round's faults happen at the same time. Afterwards every process runs, every network is healed
    /// and every clock is right.
    pub(crate) async fn suffer(&mut self, round: &Round, leader: Leader) -> Result<()> {
        let hit = |index: usize| round.0.iter().find(|fault| index_of(fault.whom, leader) == index);
        let troubled = self.schedulers.iter_mut().enumerate();
        let suffering = troubled.filter_map(|(index, scheduler)| Some(suffer(scheduler, hit(index)?)));
        try_join_all(suffering).await.map(drop)
    }
}

fn index_of(whom: Whom, leader: Leader) -> usize {
    match whom {
        Whom::Leader => leader.index,
        Whom::Other(number) => (leader.index + 1 + number) % SCHEDULERS,
    }
}

async fn suffer(scheduler: &mut Scheduler, fault: &Fault) -> Result<()> {
    // How long the trouble lasts is what is drilled: nothing is awaited here but its end.
    let lasts = sleep(fault.lasts);
    let what = match fault.what {
        What::Kill => {
            scheduler.service.kill9()?;
            scheduler.set_clock(fault.clock_ms)?;
            lasts.await;
            scheduler.service.restart().await
        }
        What::Freeze => {
            scheduler.service.signal(Signal::STOP)?;
            scheduler.set_clock(fault.clock_ms)?;
            lasts.await;
            scheduler.service.signal(Signal::CONT)
        }
        What::CutDatabase | What::CutBroker => {
            scheduler.set_clock(fault.clock_ms)?;
            let network = if fault.what == What::CutDatabase { &scheduler.database } else { &scheduler.broker };
            network.cut().await;
            lasts.await;
            network.heal();
            Ok(())
        }
        What::StallDatabase | What::StallBroker => {
            scheduler.set_clock(fault.clock_ms)?;
            let network = if fault.what == What::StallDatabase { &scheduler.database } else { &scheduler.broker };
            network.stall();
            lasts.await;
            network.heal();
            Ok(())
        }
        What::Step => {
            scheduler.set_clock(fault.clock_ms)?;
            lasts.await;
            Ok(())
        }
        What::HourAhead | What::HourBehind => {
            scheduler.set_clock(fault.clock_ms)?;
            let said = says_that_it_does_not_plan(scheduler).await;
            lasts.await;
            said
        }
    };
    what.with_context(|| format!("{}: {fault}", scheduler.name))?;
    sleep(fault.clock_outlasts).await;
    scheduler.set_clock(0)
}

async fn says_that_it_does_not_plan(scheduler: &Scheduler) -> Result<()> {
    eventually("/readyz to say that the clock is wrong", NOTICED, async || {
        let (ready, parts) = scheduler.readiness().await?;
        match part(&parts, "clock") {
            Some((false, detail)) if !ready && detail.contains("not planning") => Ok(()),
            _ => Err(parts.to_string()),
        }
    })
    .await
}
