export { createSallyport, type ComposeOptions, type Sallyport } from './compose.ts';
export { loadSettings, SettingsError, type Settings } from './config/settings.ts';
export { version } from './version.ts';
