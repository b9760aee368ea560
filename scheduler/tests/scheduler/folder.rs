//! The folder is applied, watched, and never reverted silently.

use std::sync::Arc;

use reveille_scheduler::definitions::{FolderReport, FolderWatch, Seen};
use reveille_scheduler::leader::Leadership;
use reveille_shared::periodic::Pass as _;

use crate::world::{World, one};

fn watch_folder(world: &World, leadership: &Arc<Leadership>) -> FolderWatch {
    FolderWatch {
        path: world.folder.path().join("schedules"),
        store: world.store.clone(),
        leadership: Arc::clone(leadership),
        me: "test".into(),
        alone: false,
        status: Arc::clone(&world.status),
        seen: Seen::default(),
    }
}

fn write(world: &World, text: &str) {
    let folder = world.folder.path().join("schedules");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.yaml"), text).unwrap();
}

/// Looks twice, as a change must stand still to be read.
async fn look(folder: &mut FolderWatch) -> FolderReport {
    folder.run_once().await.unwrap();
    folder.run_once().await.unwrap().0
}

/// Whether the part `definitions` is ready, and what it says.
fn said(world: &World) -> (bool, String) {
    let part = world.status.parts().into_iter().find(|part| part.name == "definitions").unwrap();
    (part.ready, part.detail)
}

async fn schedules(world: &World) -> Vec<String> {
    let rows = world.store.schedules("default", "", "", 10).await.unwrap();
    rows.into_iter().map(|row| format!("{:?}", row.schedule.timing)).collect()
}

#[tokio::test]
async fn a_faulty_change_keeps_the_last_good_definitions_until_it_is_repaired() {
    let world = World::now().await;
    let leadership = Arc::new(Leadership::default());
    write(&world, &one(&["every: 1m"]));
    let mut folder = watch_folder(&world, &leadership);
    assert_eq!(folder.run_once().await.unwrap().0, FolderReport::NotLeading);
    leadership.set(Some(world.lead().await));
    assert_eq!(folder.run_once().await.unwrap().0, FolderReport::Applied);
    let good = schedules(&world).await;
    assert_eq!(look(&mut folder).await, FolderReport::Good);

    write(&world, &one(&["every: 2m", "tirgger: j", "timezone: Mars/Base"]));
    assert!(matches!(look(&mut folder).await, FolderReport::Faulty(2..)));
    assert_eq!(schedules(&world).await, good);
    assert!(said(&world).0, "others are in force");
    let part = world.status.parts().into_iter().find(|part| part.name == "definitions").unwrap();
    assert!(part.attention && part.detail.contains("the last good ones stay in force"), "{part:?}");
    let faults = world.status.faults();
    assert!(faults.iter().any(|fault| fault.contains("a.yaml:") && fault.contains("tirgger")), "{faults:?}");

    write(&world, &one(&["every: 2m"]));
    folder.run_once().await.unwrap();
    assert_eq!(folder.run_once().await.unwrap().0, FolderReport::Applied);
    assert_ne!(schedules(&world).await, good);
    look(&mut folder).await;
    assert!(world.status.faults().is_empty());
    assert_eq!(said(&world), (true, "1 jobs and 1 schedules are in force".into()));
}

#[tokio::test]
async fn a_replica_with_an_older_folder_does_not_revert_it() {
    let world = World::now().await;
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(world.lead().await));
    write(&world, &one(&["every: 1m"]));
    watch_folder(&world, &leadership).run_once().await.unwrap();
    world.apply(leadership.current().unwrap(), &one(&["every: 2m"])).await;
    let newer = schedules(&world).await;

    let mut replica = watch_folder(&world, &leadership);
    assert_eq!(look(&mut replica).await, FolderReport::Drift);
    assert_eq!(schedules(&world).await, newer);
    let (ready, detail) = said(&world);
    assert!(ready && detail.starts_with("drift:") && detail.contains("set a revision"), "{detail}");

    // Someone means it: the same folder with a revision, and later without.
    write(&world, &format!("revision: 1\n{}", one(&["every: 1m"])));
    replica.run_once().await.unwrap();
    assert_eq!(replica.run_once().await.unwrap().0, FolderReport::Applied);
    assert_ne!(schedules(&world).await, newer);
}

#[tokio::test]
async fn what_someone_applied_by_hand_is_not_undone_behind_their_back() {
    let world = World::now().await;
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(world.lead().await));
    write(&world, &one(&["every: 1m"]));
    let mut folder = FolderWatch { alone: true, ..watch_folder(&world, &leadership) };
    assert_eq!(folder.run_once().await.unwrap().0, FolderReport::Applied);
    world.apply(leadership.current().unwrap(), &one(&["every: 2m"])).await;
    let by_hand = schedules(&world).await;
    assert_eq!(look(&mut folder).await, FolderReport::Drift);
    assert_eq!(schedules(&world).await, by_hand);

    // The next change of the folder counts again, whole.
    write(&world, &one(&["every: 3m"]));
    assert_eq!(look(&mut folder).await, FolderReport::Applied);
    assert_eq!(schedules(&world).await, ["Every(HumanDuration(180s))"]);
}

#[tokio::test]
async fn one_fault_in_one_of_500_files_keeps_all_of_them_out() {
    let world = World::now().await;
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(world.lead().await));
    let path = world.folder.path().join("schedules");
    std::fs::create_dir_all(&path).unwrap();
    let file = |n: usize, timing: &str| {
        let text = format!(
            "version: 1\njobs:\n  j{n}: {{ function: f }}\nschedules:\n  s{n}: {{ {timing}, trigger: j{n} }}\n"
        );
        std::fs::write(path.join(format!("f{n:03}.yaml")), text).unwrap();
    };
    (0..500).for_each(|n| file(n, "every: 1h"));
    file(317, "every: 1 hour");
    let mut folder = watch_folder(&world, &leadership);
    assert_eq!(folder.run_once().await.unwrap().0, FolderReport::Faulty(1));
    let told = world.status.faults().join("\n");
    assert!(told.contains("f317.yaml:5:") && told.contains("1h"), "{told}");
    assert!(schedules(&world).await.is_empty());
    file(317, "every: 1h");
    assert_eq!(look(&mut folder).await, FolderReport::Applied);
    assert_eq!(world.store.schedules("default", "", "", 1000).await.unwrap().len(), 500);
}

#[tokio::test]
async fn going_back_under_the_leaders_eyes_is_applied() {
    let world = World::now().await;
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(world.lead().await));
    let mut folder = watch_folder(&world, &leadership);
    let mut seen = Vec::new();
    for every in ["1m", "2m", "1m"] {
        write(&world, &one(&[&format!("every: {every}")]));
        look(&mut folder).await;
        seen.push(schedules(&world).await);
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_deposed_leader_applies_nothing() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(world.lead().await));
    clock.set("2026-01-03T00:00:00Z".parse().unwrap());
    world.lead().await;
    write(&world, &one(&["every: 1m"]));
    let report = watch_folder(&world, &leadership).run_once().await.unwrap().0;
    assert_eq!((report, leadership.current()), (FolderReport::NotLeading, None));
    assert!(schedules(&world).await.is_empty());
}
