import { networks } from './kinds.ts';
import { secretSetting, setting } from './spec.ts';

/** The settings of webhooks. */
export const webhookSettings = {
  webhookPrivateNetworks: setting(networks, {
    variable: 'SALLYPORT_WEBHOOK_PRIVATE_NETWORKS',
    default: '',
    text: 'Private addresses that webhooks may go to, over http too. All others that the internet cannot reach are refused.',
  }),
  secretKey: {
    ...secretSetting(
      'SALLYPORT_SECRET_KEY',
      32,
      'Key under which the secrets of webhooks are kept in the database. The same for all servers of one database.',
    ),
    defaultText: 'not set: `secret-key` in the data directory, made when it is first needed',
  },
};
