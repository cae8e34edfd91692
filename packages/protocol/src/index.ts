export { auditPage, type AuditLine, type ProcessInfo, type SettingInfo } from './admin.ts';
export {
  approval,
  approvalDecision,
  approvalStatuses,
  type ApprovalDecisionRequest,
  type ApprovalInfo,
  type ApprovalStatus,
  type RequestedApproval,
} from './approval-shapes.ts';
export {
  keyInfo,
  keyWithSecret,
  roles,
  type KeyInfo,
  type KeyWithSecret,
  type NarrowingShape,
  type Role,
  type TenantInfo,
} from './key-shapes.ts';
export { stopInfo, type StopInfo } from './stops.ts';
export { type UpstreamInfo } from './upstreams.ts';
export { type BudgetStanding, type UsageLine } from './usage.ts';
export { decisionRequest } from './approvals.ts';
export { defaultBounds, type Bounds } from './bounds.ts';
export { formatCursor, parseCursor, startOfLog, type Cursor } from './cursor.ts';
export { errorCatalogue, errorCodes, isErrorCode, type CatalogueEntry, type ErrorCode } from './errors.ts';
export {
  streamEvent,
  type Delta,
  type LogEvent,
  type LogEventBody,
  type LogEventType,
  type StreamEvent,
  type TurnStatus,
} from './events.ts';
export { jobStatuses, type JobInfo, type JobRequest, type JobStatus, type JobSummary } from './job-shapes.ts';
export { openApiDocument } from './openapi.ts';
export { operations, type OperationId } from './operations.ts';
export { rights, type Operation, type Right } from './operation.ts';
export {
  type ConversationDiff,
  type ConversationInfo,
  type ConversationKind,
  type ConversationStatus,
  type ConversationSummary,
  type ConversationWaiting,
} from './conversation-shapes.ts';
export {
  claudeHealth,
  claudeMessage,
  errorBody,
  models,
  queryRequest,
  queryResponse,
  readiness,
  runResult,
  serviceHealth,
  usage,
  type ClaudeMessage,
  type ErrorBody,
  type FileInput,
  type PermissionDenial,
  type QueryRequest,
  type QueryResponse,
  type RunResult,
  type StopReason,
  type Usage,
  type ValidationIssue,
} from './shapes.ts';
export {
  claudeResponse,
  connectionPath,
  serverFrame,
  socketFrames,
  socketProtocol,
  socketRights,
  socketTicketPrefix,
  type ClaudeResponse,
  type ServerFrame,
  type SocketFrame,
  type SocketFrames,
  type SocketFrameType,
} from './socket.ts';
export { StreamProjector, type StreamItem } from './stream.ts';
export {
  defaultTools,
  isEditTool,
  isOpenTool,
  isReadTool,
  permissionModes,
  questionTool,
  readTools,
  toolNames,
  type PermissionMode,
  type ToolName,
} from './tools.ts';
export { toolInputs } from './tool-inputs.ts';
export {
  webhookBody,
  webhookTypes,
  type WebhookDeliveryInfo,
  type WebhookProblem,
  type WebhookSecretInfo,
  type WebhookSecretShown,
  type WebhookState,
  type WebhookType,
} from './webhooks.ts';
