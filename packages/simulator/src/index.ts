export { SIMULATOR_MODEL, startSimulator } from './server.ts';
export { demoBrain } from './demo-brain.ts';
export { ScriptError, parseScript } from './script.ts';
export type { Simulator, SimulatorOptions } from './server.ts';
export type { RecordedRequest } from './records.ts';
export type {
  AnswerBlock,
  Block,
  Brain,
  BrainContext,
  Fault,
  FaultStatus,
  Message,
  MessagesRequest,
  Script,
  Step,
  Tool,
  Usage,
} from './types.ts';
