//! `agentry sim slack` and Slack's library for Python, which calls the Web API and verifies what is sent.

use crate::python::script;
use crate::simulator::Simulator;

#[test]
fn slack_sdk_takes_it_for_slack() {
    let simulator = Simulator::start(&["sim", "slack", "--time-scale", "0.001", "--ack-timeout-ms", "500"]);
    let parts = "web_api\nrefusals\nrates\nsigned_events\nretries\nforgeries\ncommands\nclicks\nmodals\nfaults\n";
    assert_eq!(script("slack_sdk_test.py", &[&simulator.url, "sim-signing-secret"]), parts);
}
