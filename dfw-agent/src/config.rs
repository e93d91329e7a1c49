//! Configuration of the agent.
