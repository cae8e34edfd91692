export const modes = ['askForEdits', 'acceptEdits', 'readOnly', 'strict'] as const;
export type Mode = (typeof modes)[number];
