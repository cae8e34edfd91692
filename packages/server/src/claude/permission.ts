import type { CanUseTool, PermissionResult } from '@anthropic-ai/claude-agent-sdk';
import { isInput, type CallAnswer, type HookDuties } from './hooks.ts';

const unchecked: PermissionResult = {
  behavior: 'deny',
  message: 'This call could not be checked, so it was not made. Do not try it again.',
};

/**
 * Answers Claude Code when it asks for a human's permission. What is thrown here would be told to the model, so
 * everything that is not a plain allow or deny is a denial in our own words.
 */
export function createCanUseTool(current: () => HookDuties | null): CanUseTool {
  return async (name, input, options) => {
    const duties = current();
    try {
      if (duties === null) throw new Error(`${name} asked for permission while there was no turn`);
      if (!duties.tools.has(name)) return { behavior: 'deny', message: `There is no tool ${name} in this run.` };
      const { toolUseID: id } = options;
      if (typeof id !== 'string' || id === '' || !isInput(input)) throw new Error(`${name} has no id or no input`);
      return resultOf(await duties.permit({ id, name, input }));
    } catch (error) {
      duties?.failed(error);
      return unchecked;
    }
  };
}

function resultOf(answer: CallAnswer): PermissionResult {
  if (answer.behavior === 'allow' && isInput(answer.input)) return { behavior: 'allow', updatedInput: answer.input };
  if (answer.behavior === 'deny' && typeof answer.message === 'string') return { ...answer };
  throw new Error('the answer to a question for permission is neither allow nor deny');
}
