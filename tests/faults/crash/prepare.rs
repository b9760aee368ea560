//! What a scene needs before the process is started that is to die.

use anyhow::{Context as _, Result, ensure};
use harness::stack::Service;
use reqwest::Method;
use serde_json::{Value, json};

use super::scenes::Before;
use super::world::{World, stop};

/// Prepares what a scene needs, and ends the process.
pub(super) async fn prepare(world: &mut World, target: &mut Service, before: Before) -> Result<()> {
    match before {
        Before::Nothing => stop(target).await,
        Before::FolderChanges => {
            stop(target).await?;
            world.change_folder()
        }
        Before::TriggersAreDue => {
            (0..3).for_each(|_| world.ask("work", "100ms", "SUCCEEDED"));
            world.insist().await?;
            target.kill9()
        }
        Before::TriggersAreSent => {
            world.stop_workers().await?;
            let last = world.fill_slots("held").await?;
            world.stack.api.wait_in_queue(&last).await?;
            target.kill9()
        }
        Before::HoldersDie | Before::HoldersDieInDoubt => {
            let job = if matches!(before, Before::HoldersDie) { "held" } else { "doubtful" };
            world.fill_slots(job).await?;
            let holders = world.insist().await?;
            world.wait_for_any(&holders, "started", |run| run["status"] == "IN_PROGRESS").await?;
            world.kill_workers()?;
            // In doubt are also the runs of the one that is to die again.
            let is_holder = world.is_one_process() || matches!(before, Before::HoldersDieInDoubt);
            if is_holder { target.kill9() } else { stop(target).await }
        }
        Before::RunsExpire => {
            world.stop_workers().await?;
            world.fill_slots("held").await?;
            world.ask("fleeting", "0s", "FAILED");
            let last = world.insist().await?.pop().context("a run")?;
            world.stack.api.wait_in_queue(&last).await?;
            target.kill9()?;
            let over = "UPDATE deliveries SET expires_at =
                            (SELECT accepted_at FROM work_requests WHERE work_requests.id = deliveries.id)
                        WHERE expires_at IS NOT NULL";
            ensure!(world.tamper(over).await? == 1, "nothing expires");
            Ok(())
        }
        Before::EndsAreUncounted => {
            world.stop_workers().await?;
            world.fill_slots("held").await?;
            world.ask_many(3);
            let parent = world.insist().await?.pop().context("a run")?;
            let children = world.children(&parent, 3).await?;
            for child in &children[..2] {
                world.cancel(child).await?;
            }
            world.wait_for(&parent, "told", |run| run["children"]["canceled"] == 2).await?;
            target.kill9()?;
            let forget = "UPDATE fan_outs SET canceled = 0 WHERE ended_at IS NULL AND canceled = 2";
            ensure!(world.tamper(forget).await? == 1, "nothing to forget");
            // Only when the third has ended, too, nobody is left to tell of the others.
            world.restart_workers().await
        }
        Before::FiresAreStranded => {
            world.stop_workers().await?;
            world.fill_slots("held").await?;
            let fired = world.call(Method::POST, "/v1/schedules/aside:trigger", &json!({}), &[202]).await?;
            world.stack.api.wait_in_queue(fired["workRequests"][0]["id"].as_str().context("an id")?).await?;
            target.kill9()?;
            let held = "UPDATE deliveries SET phase = 'held' WHERE phase = 'sent' AND schedule = 'aside'";
            ensure!(world.tamper(held).await? == 1, "nothing to hold");
            Ok(())
        }
        Before::NothingIsTold => {
            target.kill9()?;
            let untold = "UPDATE schema_info SET transitions = false";
            ensure!(world.tamper(untold).await? == 1, "there is always one row");
            Ok(())
        }
        Before::OperationIsForsaken => {
            world.ask("forsaken", "0s", "SUCCEEDED");
            let id = world.insist().await?.pop().context("a run")?;
            let is_parked =
                |run: &Value| run["waitingFor"].as_str().is_some_and(|text| text.starts_with("goes on elsewhere"));
            world.wait_for(&id, "parked", is_parked).await?;
            target.kill9()?;
            let over = "UPDATE deliveries SET attempt_until =
                            (SELECT accepted_at FROM work_requests WHERE work_requests.id = deliveries.id)
                        WHERE phase = 'parked'";
            ensure!(world.tamper(over).await? == 1, "nothing goes on elsewhere");
            Ok(())
        }
    }
}
