//! scratch
mod support;
use support::control_plane::ControlPlane;
#[test]
fn starts() {
    let t = std::time::Instant::now();
    let Some(plane) = ControlPlane::start() else { return };
    eprintln!("ready {:?}", t.elapsed());
    let o = plane.kubectl(&["create", "namespace", "x"]);
    assert!(o.ok, "{o}");
    eprintln!("{o} {:?}", t.elapsed());
    eprintln!("{:?}", plane.stored(&["namespace", "x"]));
    let o = plane.as_user("alice", &["devs"]).run(&["create", "namespace", "y"]);
    eprintln!("{o} {:?}", t.elapsed());
    drop(plane);
    eprintln!("stopped {:?}", t.elapsed());
}
